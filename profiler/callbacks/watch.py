"""A network is profiled while it trains: every step is a run, all steps are one timeline."""

import logging
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from profiler.api.file_results import ProfileComparison
from profiler.api.objects import Concepts, Images, load_concepts, load_images, load_model, load_vlm
from profiler.api.results import Profile
from profiler.api.stories import compare, profile
from profiler.callbacks.images import WatchedImages
from profiler.callbacks.summary import picture, scalars_of
from profiler.callbacks.trackers import send
from profiler.callbacks.undisturbed import averaged, twin_of, undisturbed
from profiler.core.store import write_atomically
from profiler.data.annotations import is_annotated
from profiler.data.concept_sets import ConceptSet
from profiler.data.images import ProbeSet
from profiler.errors import InputError, UsageError, first_line
from profiler.models.subject.network import Subject
from profiler.models.subject.preprocessing import Preprocess
from profiler.models.vlm.base import VLM
from profiler.models.vlm.choose import DEFAULT_VLM, check_vlm
from profiler.profile.evaluation import DRAWS
from profiler.profile.result import load_run
from profiler.session import check_writable

log = logging.getLogger("profiler")

TIMELINE = ("timeline.json", "timeline.html")
"""The numbers and the page over all steps, beside the folders of the steps."""
MOST_STEPS = 12
"""Steps on the page; of more, an even choice with the first and the last two."""
_FOLDER = re.compile(r"step-(\d+)")


class Watch:
    """Profiles a network while it trains; a loop calls it as ``watch(step)``.

    A copy of the network is profiled, so training goes on as it would have without: weights,
    optimizer, random numbers, modes, hooks and statistics are unmodified. Each step is written as
    the run of ``profiler run``, in ``out/step-000700``, and ``out/timeline.html`` is written anew:
    the page of ``profiler compare --timeline``. The images are decoded and embedded once; each
    later step costs little more than the network's own forward passes over them.

    A training that was interrupted goes on in the same folder: the steps before the one that it
    goes on from are kept, those after it are profiled anew.

    Args:
        model: the network; or a function without arguments that returns it, where it is replaced
            during training. DistributedDataParallel, ``torch.compile`` and averages of weights
            (``AveragedModel``, timm's ``ModelEmaV3``) are looked through.
        images: shown to the network at each step; as in :func:`profiler.profile`.
        preprocess: from an RGB image to a tensor (3, H, W), as in evaluation; or text such as
            ``resize=256,crop=224``.
        layers: as in :func:`profiler.profile`.
        vlm: reads the images: a name, or what ``load_vlm`` returned.
        concepts: as in :func:`profiler.profile`.
        every_n_epochs: profile every so many calls, where the loop calls once an epoch.
        every_n_train_steps: profile where the step is a multiple of this.
        at: ``log`` for steps 0, 1, 2, 5, 10, 20, 50 …; or the steps. Of these three at most one is
            given; without any, every call profiles.
        limit: how many of the images to use, evenly spread; of those that ``load_images``
            returned, all.
        max_seconds: where a step after the first took longer, no further one is profiled; None
            for no limit. The first does not count, because it embeds the images.
        out: folder of the steps and the timeline.
        log: trackers to log to, each by what it can do: a ``SummaryWriter``, the modules ``mlflow``
            or ``trackio`` or what their clients return, a run of W&B, a logger of Lightning.
        on_error: ``warn`` once for each reason and let training go on, or ``raise``.
        name: what to call the network; by default its class.
        device: where the copy runs; None: where the network is.
        seed: of everything random in a profile.
        cache: folder of what takes time; None for the user's cache folder.
        options: fields of :class:`profiler.profile.run.ProfileOptions`. With
            ``keep_activations=True`` the timeline has a noise floor, and takes longer to make.

    Raises:
        ProfilerError: an argument cannot be used. What fails later is left to ``on_error``.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        *,
        images: Images,
        preprocess: str | Preprocess,
        layers: str | Sequence[str] = "all",
        vlm: str | VLM = DEFAULT_VLM,
        concepts: Concepts = "common-20k",
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        at: Literal["log"] | Collection[int] | None = None,
        limit: int | None = 1000,
        max_seconds: float | None = 120,
        out: Path | str = "profiles",
        log: Sequence[Any] = (),
        on_error: Literal["warn", "raise"] = "warn",
        name: str | None = None,
        device: str | None = None,
        seed: int = 0,
        cache: Path | str | None = None,
        **options: Any,
    ) -> None:
        chosen = {
            "every_n_epochs": every_n_epochs,
            "every_n_train_steps": every_n_train_steps,
            "at": at,
        }
        if len(given := [key for key, value in chosen.items() if value is not None]) > 1:
            raise UsageError(f"{' and '.join(f'`{key}`' for key in given)} exclude each other")
        for key in ("every_n_epochs", "every_n_train_steps"):
            if (every := chosen[key]) is not None and (not isinstance(every, int) or every < 1):
                raise UsageError(f"`{key}` is a whole number of at least 1, not {every!r}")
        if isinstance(at, str) and at != "log":
            raise UsageError(f"`at` is 'log' or a collection of steps, not {at!r}")
        if on_error not in ("warn", "raise"):
            raise UsageError(f"`on_error` is 'warn' or 'raise', not {on_error!r}")
        if preprocess is None:
            raise InputError(
                "`preprocess` is missing: a network in training does not say how its images are "
                "prepared; give a function from an RGB image to a tensor (3, H, W), without "
                "augmentation, or text such as resize=256,crop=224"
            )
        if isinstance(vlm, str):
            check_vlm(vlm)
        self.out = Path(out)
        self.trackers = tuple(log)
        self._model = model
        self._every = every_n_epochs or every_n_train_steps
        self._at = at
        # A step shall cost the network's passes alone: nothing is drawn, and nothing read again.
        unread = {"scenes": 0, "outlines": 0}
        self._how: dict[str, Any] = {"layers": layers, "seed": seed, **unread, **options}
        self._preprocess = preprocess
        self._name, self._device, self._cache = name, device, cache
        self._on_error, self._most = on_error, max_seconds
        self._concepts: str | ConceptSet
        loaded = hasattr(type(images), "fingerprint")
        self._images: ProbeSet = load_images(images, limit=None if loaded else limit)
        self._vlm = vlm
        if isinstance(concepts, str) and is_annotated(concepts):
            self._concepts = concepts
        else:
            self._concepts = load_concepts(concepts)
            self._images = WatchedImages(self._images)
        check_writable(self.out, keep=True)  # by all processes of a training, at once
        self._steps: dict[int, Profile] = {}
        self._pictures: dict[bytes, bytes] = {}
        self._begun: int | None = None
        self._made = 0
        self._stopped = False
        self._warned: set[str] = set()

    def __call__(self, step: int) -> Profile | None:
        """Profile the network if it is due at this step; returns the profile, if one was made.

        Args:
            step: counted from 0 by the loop; of ``every_n_epochs`` the number of the epoch.
        """
        if self._begun is None:
            self._begun = step
        return self.profile(step) if self.is_due(step) else None

    def is_due(self, step: int) -> bool:
        """Whether a step is one of those that were asked for."""
        if self._every is not None:
            return step % self._every == 0
        if self._at == "log":
            return str(step).rstrip("0") in ("", "1", "2", "5")
        return self._at is None or step in self._at

    def profile(self, step: int) -> Profile | None:
        """Profile the network now, whether it is due or not.

        Returns:
            The profile; None in other processes than the first of a distributed training, where
            the step failed, and after a step that took longer than ``max_seconds``.
        """
        if self._begun is None:
            self._begun = step
        if self._stopped or not _is_first_process():
            return None
        start = time.monotonic()
        before = self._made
        try:
            with undisturbed(), self._quiet():
                found, comparison = self._profile(step)
                if self._made > before:
                    self._log(step, found, comparison)
        except Exception as error:
            self._complain(step, error)
            return None
        took = time.monotonic() - start
        if self._most is not None and before and self._made > before and took > self._most:
            self._stopped = True
            warnings.warn(
                f"profiler: step {step} took {took:.0f} s, more than max_seconds={self._most:g}: "
                "no further step is profiled; use fewer images (limit) or layers, or raise "
                "max_seconds",
                RuntimeWarning,
                stacklevel=2,
            )
        return found

    def _profile(self, step: int) -> tuple[Profile, ProfileComparison | None]:
        """The profile of a step, made or as it was kept, and the timeline up to it."""
        subject = self._subject(step)
        folder = self.out / f"step-{step:06d}"
        found = self._kept(folder, subject)
        if found is None:
            if isinstance(self._vlm, str) and not isinstance(self._concepts, str):
                self._vlm = load_vlm(self._vlm, device=_device_text(subject.device))
            found = profile(
                subject,
                self._images,
                self._concepts,
                vlm=self._vlm,
                device=_device_text(subject.device),
                cache=self._cache,
                out=folder,
                **self._how,
            )
            self._made += 1
        self._steps = {s: each for s, each in self._earlier(step).items() if s < step}
        self._steps[step] = self._shared(found)
        return found, self._timeline()

    def _subject(self, step: int) -> Subject:
        """A copy of the network as it is now."""
        model = self._model if isinstance(self._model, nn.Module) else self._model()
        twin = twin_of(averaged(model))
        first = next(twin.parameters(), torch.empty(0))
        loaded = load_model(
            twin,
            preprocess=self._preprocess,
            name=self._name,
            device=self._device or _device_text(first.device),
        )
        return replace(loaded, step=float(step), weights=f"step {step:,}")

    def _kept(self, folder: Path, subject: Subject) -> Profile | None:
        """The finished run in a folder, if it is of these very weights."""
        if not (folder / "run.json").is_file():
            return None
        found = Profile(load_run(folder), folder)
        same = found.run.record.subject.fingerprint == subject.fingerprint
        return found if same else None

    def _earlier(self, step: int) -> dict[int, Profile]:
        """The steps before this one, by number: of this training, and of what it goes on from."""
        found = dict(self._steps)
        if not found:
            for folder in self.out.glob("step-*"):
                named = _FOLDER.fullmatch(folder.name)
                if named and (folder / "run.json").is_file() and int(named[1]) < (self._begun or 0):
                    found[int(named[1])] = self._shared(Profile(load_run(folder), folder))
        return found

    def _shared(self, found: Profile) -> Profile:
        """The profile with its small pictures held but once in memory, for all steps."""
        pool = self._pictures
        pictures = {i: pool.setdefault(each, each) for i, each in found.run.thumbnails.items()}
        return replace(found, run=replace(found.run, thumbnails=pictures))

    def _timeline(self) -> ProfileComparison | None:
        """Compare the steps, and write the page; nothing for a single one."""
        steps = sorted(self._steps)
        if len(steps) < 2:
            return None
        if len(steps) > MOST_STEPS:
            even = torch.linspace(0, len(steps) - 2, MOST_STEPS - 1).round().long().tolist()
            steps = [*(steps[i] for i in even), steps[-1]]
        kept = bool(self._how.get("keep_activations"))
        found = compare(
            *(self._steps[step] for step in steps),
            names=[f"step-{step:06d}" for step in steps],
            timeline="step",
            draws=DRAWS if kept else 0,
            vlm=None if isinstance(self._vlm, str) else self._vlm,
            seed=self._how["seed"],
            cache=self._cache if kept else False,
        )
        contents = (found.files[found.NAMES[0]], found.files[found.NAMES[-1]])
        for name, content in zip(TIMELINE, contents, strict=True):
            write_atomically(self.out / name, content)
        return found

    def _log(self, step: int, found: Profile, comparison: ProfileComparison | None) -> None:
        """Send numbers, picture and page to every tracker; one that fails leaves the others."""
        page = self.out / TIMELINE[-1] if comparison else self.out / f"step-{step:06d}/report.html"
        scalars = scalars_of(found, comparison)
        image = picture(self._steps)
        for tracker in self.trackers:
            try:
                send(tracker, step, scalars, image, page)
            except Exception as error:
                self._complain(step, error, f"{_named(tracker)} could not be logged to")

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """What a run warns of is said at the first step, and not again at each."""
        before = log.disabled
        log.disabled = before or self._made > 0
        try:
            yield
        finally:
            log.disabled = before

    def _complain(self, step: int, error: Exception, what: str = "") -> None:
        if self._on_error == "raise":
            raise error
        reason = f"{what or 'the network could not be profiled'}: {type(error).__name__}: "
        reason += first_line(error)
        if reason in self._warned:
            return
        self._warned.add(reason)
        warnings.warn(
            f"profiler: at step {step} {reason}; training goes on",
            RuntimeWarning,
            stacklevel=3,
        )


def _is_first_process() -> bool:
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not spread or torch.distributed.get_rank() == 0


def _device_text(device: torch.device) -> str:
    """As ``choose_device`` takes it: only devices of CUDA have numbers there."""
    return str(device) if device.type == "cuda" else device.type


def _named(tracker: Any) -> str:
    return getattr(tracker, "__name__", type(tracker).__name__)
