"""The guard in Python: fitted on, scoring and assessed on networks and images as they come."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import nn

from profiler.api.classifiers import (
    Classes,
    Labelled,
    LabelledCase,
    check_data,
    class_names,
    open_labels,
)
from profiler.api.file_results import GuardAssessment
from profiler.api.objects import (
    CacheFolder,
    Concepts,
    Images,
    in_parameters,
    open_images,
    open_store,
    open_subject,
    provenance_of,
    services_of,
)
from profiler.api.results import Profile, framed
from profiler.data.corruptions import Corruption
from profiler.guard.answers import REFERENCE, check_subject
from profiler.guard.assess import AssessOptions, assess_guard
from profiler.guard.fit import GuardOptions, check_rule, fit_guard, open_guard_data
from profiler.guard.guard import FILE, Guard
from profiler.guard.rules.combined import DEFAULT
from profiler.guard.score import COLUMNS, score_images
from profiler.guard.thresholds import CONFIDENCE
from profiler.models.attacks import Attack
from profiler.models.classifier import Classifier
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import DEFAULT_VLM
from profiler.session import Progress, Reading

if TYPE_CHECKING:
    import pandas as pd


class FittedGuard(Guard):
    """A guard that fits itself, judges images, and is assessed; ``profiler guard``."""

    @classmethod
    @in_parameters
    def fit(
        cls,
        model: str | nn.Module | Subject,
        images: Labelled,
        concepts: Concepts | Profile | None = None,
        *,
        classes: Classes | None = None,
        head: str | None = None,
        rule: str = DEFAULT,
        views: Sequence[str] = (),
        target: str = "false-alarms",
        level: float = 0.05,
        confidence: float = CONFIDENCE,
        vlm: str | VLM = DEFAULT_VLM,
        preprocess: str | Preprocess | None = None,
        trust_labels: bool = False,
        limit: int | None = None,
        seed: int = 0,
        device: str = "auto",
        reading: Reading | None = None,
        cache: CacheFolder = None,
        progress: Progress | None = None,
        out: Path | str | None = None,
    ) -> Self:
        """Make a guard from labelled images that the network was not trained on.

        Args:
            model: see ``profiler.debug``, as for ``images``, ``concepts``, ``classes``, ``head``
                and the parameters from ``vlm`` on.
            images: labelled.
            concepts: to compare.
            classes: a file that says what the outputs are called.
            head: name of the linear layer that is the head.
            rule: one of :data:`profiler.guard.rules.combined.CHOICES`, or ``auto``.
            views: further views of each image that the model is asked about, by name.
            target: what the threshold promises: ``false-alarms``, ``share``, ``passed-errors`` or
                ``risk``.
            level: at most this share.
            confidence: with which ``risk`` is held.
            vlm: reads the images.
            preprocess: of a module.
            trust_labels: go on although labels and outputs seem to be numbered differently.
            limit: how many of the images to use.
            seed: of everything random.
            device: where networks run.
            reading: how images are read.
            cache: where what takes time is kept.
            progress: is told how far each stage has come.
            out: folder to write the guard and its reference to; None to write nothing.
        """
        check_rule(rule, tuple(views))
        settings = {
            "model": model,
            "images": images,
            "concepts": concepts,
            "rule": rule,
            "seed": seed,
        }
        options = GuardOptions(
            rule,
            tuple(views),
            target,
            level,
            confidence,
            trust_labels,
            seed,
            reading or Reading(),
            provenance_of("Guard.fit", settings),
        )
        store = open_store(cache)
        case = LabelledCase.open(
            model, images, concepts, classes, head, vlm, preprocess, limit, device
        )
        words, folder = case.concepts, None if out is None else Path(out)
        services = services_of(progress, store=store)
        return cls._of(
            fit_guard(case.classifier, case.eyes(), case.images, words, folder, options, services)
        )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a guard's file, or that in a folder.

        Raises:
            InputError: it is none, or damaged.
        """
        path = Path(path)
        return cls._of(super().load(path / FILE if path.is_dir() else path))

    def save(self, path: Path | str) -> None:
        """Write it; whole or not at all."""
        super().save(Path(path))

    @classmethod
    def _of(cls, guard: Guard) -> Self:
        return cls(**{each.name: getattr(guard, each.name) for each in fields(guard)})

    @in_parameters
    def score(
        self,
        model: str | nn.Module | Subject,
        images: Images,
        *,
        preprocess: str | Preprocess | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> "pd.DataFrame":
        """Judge images: the table of ``profiler guard score``, a row an image.

        Args:
            model: the one that the guard was made for.
            images: as for ``profiler.profile``.
            preprocess: of a module.
            device: where the network runs.
            progress: is told how far it has come.

        Raises:
            ContextError: it is another model.
        """
        classifier = self._classifier(model, preprocess, device)
        probe, services = open_images(images), services_of(progress)
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            row.cells for row in score_images(self, classifier, probe, services=services)
        )
        return framed(file.getvalue())

    @in_parameters
    def evaluate(
        self,
        model: str | nn.Module | Subject,
        images: Labelled,
        *,
        classes: Classes | None = None,
        attacks: Sequence[Attack] = (),
        corruptions: Sequence[str | Corruption] = (),
        reference: Path | str | None = None,
        preprocess: str | Preprocess | None = None,
        limit: int | None = None,
        seed: int = 0,
        device: str = "auto",
        progress: Progress | None = None,
        out: Path | str | None = None,
    ) -> GuardAssessment:
        """Measure the guard on held-out labelled images: ``profiler guard eval``.

        Args:
            model: the one that the guard was made for.
            images: labelled; those the guard was made from are left out.
            classes: a file that says what the outputs are called.
            attacks: to try as well.
            corruptions: likewise, as in ``gaussian_noise:3``.
            reference: folder that ``fit`` wrote to, for the baselines that need its images.
            preprocess: of a module.
            limit: how many of the images to use.
            seed: of the bootstrap and of corruptions.
            device: where the network runs.
            progress: is told how far each stage has come.
            out: folder to write to; None to write nothing.
        """
        settings = {"model": model, "images": images, "attacks": len(attacks), "seed": seed}
        harmed = tuple(
            Corruption.parse(each) if isinstance(each, str) else each for each in corruptions
        )
        source, left = open_labels(images, limit)
        names = class_names(classes)
        check_data(source, names)
        classifier = self._classifier(model, preprocess, device)
        found = assess_guard(
            self,
            classifier,
            open_guard_data(self, source, names, left),
            None if reference is None else Path(reference, REFERENCE),
            None if out is None else Path(out),
            AssessOptions(
                tuple(attacks),
                harmed,
                seed=seed,
                provenance=provenance_of("Guard.evaluate", settings),
            ),
            services_of(progress),
        )
        return GuardAssessment(found.files)

    def _classifier(
        self, model: str | nn.Module | Subject, preprocess: str | Preprocess | None, device: str
    ) -> Classifier:
        subject = open_subject(model, preprocess, device)
        classifier = Classifier.find(subject, self.context.head)
        check_subject(self, classifier)
        return classifier
