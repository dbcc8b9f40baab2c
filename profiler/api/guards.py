"""The guard in Python: fitted on, scoring and assessed on networks and images as they come."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import nn

from profiler.api.classifiers import (
    Classes,
    Labelled,
    LabelledCase,
    Proposing,
    changes_of,
    open_labels,
)
from profiler.api.file_results import GuardAssessment, csv_text
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
from profiler.guard.guard import Guard
from profiler.guard.metrics import DRAWS
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
        concepts: Concepts | Profile | Proposing | None = None,
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

        Half of the images are fitted on, a quarter is chosen on, and a quarter sets the threshold.

        Args:
            model: a name, a module with ``preprocess``, or what ``load_model`` returned.
            images: labelled, as in ``profiler.debug``.
            concepts: to compare, as in ``profiler.debug``.
            classes: what the outputs are called, as in ``profiler.debug``.
            head: name of the linear layer that is the head; None for the last one.
            rule: the method: one of :data:`profiler.guard.rules.combined.CHOICES`, or ``auto``.
            views: augmented views of each image that the model is asked about as well:
                ``mirrored``, ``right``, ``down``, ``left``, ``up``.
            target: what the threshold promises: at most ``level`` of the correct predictions are
                flagged (``false-alarms``), of all inputs are flagged (``share``), of all inputs
                are incorrect and pass (``passed-errors``), or of what passes is incorrect
                (``risk``).
            level: a share between 0 and 1.
            confidence: with which ``risk`` is held, between 0 and 1.
            vlm: reads the images: a name, or what ``load_vlm`` returned.
            preprocess: of a module; see ``load_model``.
            trust_labels: go on although labels and outputs seem to be numbered differently.
            limit: how many of the images to use, evenly spread.
            seed: of everything random.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            reading: how images are read: batch size, workers, precision.
            cache: as in ``profiler.profile``.
            progress: is told how far each stage has come.
            out: folder to write the guard and its reference to; None to write nothing.

        Returns:
            The guard: :meth:`score` judges images, :meth:`wrap` puts it around the network.

        Raises:
            ProfilerError: with the reason; see :mod:`profiler.errors`.
        """
        check_rule(rule, tuple(views))
        how = provenance_of(
            "Guard.fit", model=model, images=images, concepts=concepts, rule=rule, seed=seed
        )
        options = GuardOptions(
            rule,
            tuple(views),
            target,
            level,
            confidence,
            trust_labels,
            seed,
            reading or Reading(),
            how,
        )
        store = open_store(cache)
        folder = None if out is None else Path(out)
        case = LabelledCase.given(
            model, images, concepts, classes, head, vlm, preprocess, limit, device, folder
        )
        classifier, labelled = case.open()
        words = case.concepts(labelled)
        services = services_of(progress, store=store)
        made = fit_guard(
            classifier, case.open_vlm(store), labelled, words, folder, options, services
        )
        return cls(**{each.name: getattr(made, each.name) for each in fields(made)})

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
        """Judge images: the table of ``profiler guard score``.

        Args:
            model: the one that the guard was made for.
            images: as in ``profiler.profile``; no labels are needed.
            preprocess: of a module; see ``load_model``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            progress: is told how far it has come.

        Returns:
            A row an image: ``image``, ``prediction`` and its number ``class``, ``score`` (the
            higher, the less the prediction is to be trusted), ``verdict`` (``accept`` or
            ``flag``), ``against_1`` and so on (what speaks most against it), ``problem`` (why an
            image could not be judged) and ``views``.

        Raises:
            ContextError: it is another model.
        """
        classifier = self._classifier(model, preprocess, device)
        probe, services = open_images(images), services_of(progress)
        rows = score_images(self, classifier, probe, services=services)
        return framed(csv_text(COLUMNS, (row.cells for row in rows)))

    @in_parameters
    def evaluate(
        self,
        model: str | nn.Module | Subject,
        images: Labelled,
        *,
        classes: Classes | None = None,
        attacks: Sequence[str | Attack] = (),
        eps: str = "1/255,2/255,4/255",
        attack_steps: int = 10,
        corruptions: Sequence[str | Corruption] = (),
        draws: int = DRAWS,
        reference: Path | str | None = None,
        preprocess: str | Preprocess | None = None,
        limit: int | None = None,
        seed: int = 0,
        device: str = "auto",
        progress: Progress | None = None,
        out: Path | str | None = None,
    ) -> GuardAssessment:
        """Measure the guard on held-out labelled images: ``profiler guard eval``.

        Images that the guard was made from are left out: files are recognised by their content,
        images in memory by their pixels, so that the one is not recognised as the other.

        Args:
            model: the one that the guard was made for.
            images: labelled, as in ``profiler.debug``.
            classes: what the outputs are called: names in their order, or a file; None: as the
                guard calls them.
            attacks: to measure under as well: ``fgsm``, ``pgd``, or attacks as objects.
            eps: how far an attack may move a pixel, white being 1; several with commas.
            attack_steps: of ``pgd``.
            corruptions: to measure under as well, as in ``gaussian_noise:3``.
            draws: of the bootstrap that gives 95 % intervals.
            reference: folder that ``fit`` wrote to, for the baselines Mahalanobis and KNN, which
                need its features; None leaves them out.
            preprocess: of a module; see ``load_model``.
            limit: how many of the images to use, evenly spread.
            seed: of the bootstrap, of attacks and of corruptions.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            progress: is told how far each stage has come.
            out: folder to write to; None to write nothing.

        Returns:
            AUROC, AUPR, FPR at 95 % and the area under the risk-coverage curve, of the guard and
            of baselines, for each condition.

        Raises:
            ContextError: it is another model, or its outputs are called otherwise.
            InputError: no image is left, or all predictions are correct, or all incorrect.
        """
        attacked, harmed = changes_of(attacks, eps, attack_steps, corruptions, seed)
        how = provenance_of(
            "Guard.evaluate",
            model=model,
            images=images,
            attacks=[each.text for each in attacked],
            corruptions=harmed,
            draws=draws,
            seed=seed,
        )
        source, names, left = open_labels(images, classes, limit)
        classifier = self._classifier(model, preprocess, device)
        found = assess_guard(
            self,
            classifier,
            open_guard_data(self, source, names, left),
            None if reference is None else Path(reference, REFERENCE),
            None if out is None else Path(out),
            AssessOptions(
                attacked,
                harmed,
                draws=draws,
                seed=seed,
                provenance=how,
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
