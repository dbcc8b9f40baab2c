"""What changed in what drives the layers of runs, by experiment.

Runs whose networks saw the same scenes are compared scene by scene: intervals are paired, and much
narrower than those of the shares themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from profiler.compare.result import DriversChange, PairComparison
from profiler.profile.drivers import LayerDrivers
from profiler.profile.result import ProfileRun


def drivers_of(run: ProfileRun) -> Mapping[str, LayerDrivers]:
    """What drives each layer, by its name; empty without an experiment."""
    return {layer.layer: layer for layer in run.drivers}


def same_scenes(runs: Sequence[ProfileRun]) -> bool:
    """Whether all runs have an experiment, on the same scenes."""
    records = [run.record.experiment for run in runs]
    return len({(each.fingerprint, each.scenes) if each else None for each in records}) == 1 and (
        records[0] is not None
    )


def driver_warnings(names: Sequence[str], runs: Sequence[ProfileRun]) -> tuple[str, ...]:
    """Why what drives the layers is not compared, where some run could."""
    if same_scenes(runs) or not any(run.drivers for run in runs):
        return ()
    without = [name for name, run in zip(names, runs, strict=True) if not run.drivers]
    reason = (
        f"{', '.join(without)} came without the experiment"
        if without
        else "the networks were shown different scenes"
    )
    return (f"what drives the layers is not compared, because {reason}",)


def with_drivers(
    runs: Sequence[ProfileRun], pairs: Sequence[PairComparison]
) -> tuple[PairComparison, ...]:
    """The pairs with what changed in each layer that both runs have, if all saw the same scenes.

    Args:
        runs: in the order of the comparison.
        pairs: which of them are compared.
    """
    if not same_scenes(runs):
        return tuple(pairs)
    found = []
    for pair in pairs:
        before, after = (drivers_of(runs[place]) for place in (pair.before, pair.after))
        changes = tuple(
            DriversChange(name, one.shares(), after[name].shares(), after[name].less(one))
            for name, one in before.items()
            if name in after
        )
        found.append(replace(pair, drivers=changes))
    return tuple(found)


def largest_changes(
    changes: Sequence[DriversChange], least: float = 0.0
) -> list[tuple[DriversChange, str]]:
    """Changes beyond their intervals, each with its factor, the largest first.

    Args:
        changes: layer by layer.
        least: share by which one has to change at least.
    """
    found = [
        (each, factor)
        for each in changes
        for factor in each.beyond_chance
        if abs(each.change[factor].value) >= least
    ]
    return sorted(found, key=lambda pair: -abs(pair[0].change[pair[1]].value))
