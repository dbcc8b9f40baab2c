"""A callback of the Trainer of transformers that profiles the network while it trains."""

import importlib
import os
from collections.abc import Collection
from typing import Any, Literal, cast

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from profiler.callbacks.watch import Watch


class ProfilerCallback(TrainerCallback):  # type: ignore[misc]  # not a dependency
    """Profiles the network of a ``Trainer`` while it trains; see :class:`.Watch`.

    The network is profiled at the start and at the end of training, and in between at each epoch
    by default. Steps are the trainer's ``global_step``. In distributed training the first process
    profiles. The network is called with images alone.

    Args:
        every_n_epochs: epochs between two profiles; 1 by default.
        every_n_train_steps: steps of the optimizer between two profiles, in place of epochs.
        at: ``log`` for the steps 1, 2, 5, 10, 20, 50 …; ``evaluate`` or ``save`` for those at which
            the trainer evaluates or saves; or the steps; in place of epochs.
        log: trackers to log to; None: those of ``report_to`` among ``tensorboard``, ``mlflow``,
            ``trackio`` and ``wandb``.
        arguments: all others of :class:`.Watch`: ``images``, ``preprocess``, ``vlm`` ….
    """

    def __init__(
        self,
        *,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        at: Literal["log", "evaluate", "save"] | Collection[int] | None = None,
        log: Collection[Any] | None = None,
        **arguments: Any,
    ) -> None:
        self._event = "step"
        steps = cast(Literal["log"] | Collection[int] | None, at)
        if at in ("evaluate", "save"):
            self._event, steps = str(at), ()
        elif every_n_train_steps is None and at is None:
            every_n_epochs, self._event = every_n_epochs or 1, "epoch"
        self.watch = Watch(
            self._network,
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            at=steps,
            log=tuple(log or ()),
            **arguments,
        )
        self._own_trackers = log is None
        self._model: nn.Module | None = None
        self._last = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network as training begins, or goes on."""
        if self._own_trackers and state.is_world_process_zero:
            self.watch.trackers = _trackers_of(args)
        self._profile(state, **known)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network after a step of the optimizer that is due, and after the last."""
        due = self._event == "step" and self.watch.is_due(state.global_step)
        # Not as the training ends: the trackers of the trainer are closed before.
        if due or state.global_step >= state.max_steps:
            self._profile(state, **known)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network after an epoch that is due."""
        if self._event == "epoch" and self.watch.is_due(round(state.epoch or 0)):
            self._profile(state, **known)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network when it was evaluated in training, if that is asked for."""
        if self._event == "evaluate" and self._last >= 0:
            self._profile(state, **known)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network when it was saved, if that is asked for."""
        if self._event == "save":
            self._profile(state, **known)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Profile the network of a training that was stopped early; not logged any more."""
        if self._own_trackers:
            for tracker in self.watch.trackers:
                if hasattr(tracker, "add_scalar"):  # the writer of our own
                    tracker.close()
            self.watch.trackers = ()
        self._profile(state, **known)
        self._last = -1

    def _profile(self, state: TrainerState, model: nn.Module | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or state.global_step == self._last:
            return
        self._last = state.global_step
        self._model = model
        try:
            self.watch.profile(state.global_step)
        finally:
            self._model = None

    def _network(self) -> nn.Module:
        """The network as it is now."""
        if self._model is None:
            raise RuntimeError("no training is running")
        return self._model


def _trackers_of(args: TrainingArguments) -> tuple[Any, ...]:
    """What the trainer reports to, where a callback can find it.

    The writer of TensorBoard is hidden in the trainer; another one writes to a folder beside.
    """
    found: list[Any] = []
    for name in args.report_to:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            folder = os.environ.get("TENSORBOARD_LOGGING_DIR") or os.path.join(
                args.output_dir or ".", "runs"
            )
            found.append(SummaryWriter(os.path.join(folder, "profiler")))
        elif name in ("mlflow", "trackio", "wandb"):
            found.append(importlib.import_module(name))
    return tuple(found)
