"""A callback of Lightning that profiles the network while it trains."""

from collections.abc import Collection
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from profiler.callbacks.watch import Watch


class ProfilerCallback(Callback):  # type: ignore[misc]  # not a dependency
    """Profiles the network of a Lightning module while it trains; see :class:`.Watch`.

    The network is profiled at the start and at the end of training, and in between as
    ``ModelCheckpoint`` would save it: every epoch by default. Steps are the trainer's
    ``global_step``. Nothing is profiled in the sanity check, in validation, or with
    ``fast_dev_run``; in distributed training the first process profiles and the others wait for
    it. Where a callback such as ``WeightAveraging`` averages the weights, or the module keeps an
    average of its own, the average is profiled.

    Args:
        every_n_epochs: epochs between two profiles; 1 by default.
        every_n_train_steps: steps of the optimizer between two profiles, in place of epochs.
        at: ``log`` for the steps 1, 2, 5, 10, 20, 50 …; or the steps, in place of epochs.
        module: name of the network within the Lightning module; empty: the module itself, whose
            ``forward`` is called with images.
        log: trackers to log to; None: the loggers of the trainer.
        arguments: all others of :class:`.Watch`: ``images``, ``preprocess``, ``vlm`` ….
    """

    def __init__(
        self,
        *,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        at: Literal["log"] | Collection[int] | None = None,
        module: str = "",
        log: Collection[Any] | None = None,
        **arguments: Any,
    ) -> None:
        if every_n_epochs is None and every_n_train_steps is None and at is None:
            every_n_epochs = 1
        self.watch = Watch(
            self._network,
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            at=at,
            log=tuple(log or ()),
            **arguments,
        )
        self._by_epoch = every_n_epochs is not None
        self._module = module
        self._own_loggers = log is None
        self._now: tuple[Trainer, LightningModule] | None = None
        self._last = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Profile the network as training begins, or goes on."""
        if self._own_loggers:
            self.watch.trackers = tuple(trainer.loggers)
        self._profile(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Profile the network after a step of the optimizer that is due."""
        if not self._by_epoch and self.watch.is_due(trainer.global_step):
            self._profile(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Profile the network after an epoch that is due."""
        if self._by_epoch and self.watch.is_due(trainer.current_epoch + 1):
            self._profile(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Profile the network as it ends."""
        self._profile(trainer, pl_module)

    def _profile(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        # Accumulated gradients make several batches of a step.
        if trainer.fast_dev_run or trainer.sanity_checking or step == self._last:
            return
        self._last = step
        self._now = trainer, pl_module
        try:
            self.watch.profile(step)
        finally:
            self._now = None
            trainer.strategy.barrier("profiler")

    def _network(self) -> nn.Module:
        """The network as it is now, its averaged weights where there are some."""
        if self._now is None:
            raise RuntimeError("no training is running")
        trainer, pl_module = self._now
        whole = _average_in(trainer) or pl_module
        return whole.get_submodule(self._module)


def _average_in(trainer: Trainer) -> nn.Module | None:
    """The average of the whole module that a callback keeps, once there is one."""
    for callback in trainer.callbacks:
        average = getattr(callback, "_average_model", None)
        if isinstance(average, torch.optim.swa_utils.AveragedModel) and int(average.n_averaged) > 0:
            return average.module
    return None
