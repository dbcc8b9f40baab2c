"""One question to a solver of linear programs: how far can some rows all be lifted above zero."""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from profiler.core.arrays import BoolArray, Float64

Status = Literal["optimal", "timeout", "failed"]


@dataclass(frozen=True, eq=False)
class Lift:
    """Maximise t subject to A u + b ≥ t, or ≥ 0 for some rows, and to what bounds u.

    Attributes:
        rows: A (P, n), scaled so that t is a length.
        offsets: b (P,).
        weights: u are weights (u ≥ 0, Σ u = 1); otherwise −1 ≤ u ≤ 1.
        lifted: (P,) which rows lie above t; the others above 0. None: all.
        cuts: (K, n) directions in each of which u reaches no further than 1: cuts·u ≤ 1.
    """

    rows: Float64
    offsets: Float64
    weights: bool
    lifted: BoolArray | None = None
    cuts: Float64 | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver says.

    Attributes:
        status: only ``optimal`` is an answer.
        point: u (n,).
        multipliers: (P,) of the rows, not negative.
        lift: t.
        said: the solver's own words.
    """

    status: Status
    point: Float64
    multipliers: Float64
    lift: float
    said: str = ""


def highs(program: Lift, seconds: float) -> Answer:
    """Solve with HiGHS, as SciPy ships it, within a time; never raises for lack of an answer."""
    count, width = program.rows.shape
    if seconds <= 0:
        return _none(program, "timeout", "no time was left")
    costs = np.zeros(width + 1)
    costs[-1] = -1
    lifted = np.ones(count) if program.lifted is None else program.lifted.astype(np.float64)
    above = [np.hstack([-program.rows, lifted[:, None]])]
    most = [program.offsets]
    if program.cuts is not None and len(program.cuts):
        above.append(np.hstack([program.cuts, np.zeros((len(program.cuts), 1))]))
        most.append(np.ones(len(program.cuts)))
    total = np.append(np.ones(width), 0.0)[None] if program.weights else None
    low = 0.0 if program.weights else -1.0
    started = time.perf_counter()
    try:
        found = linprog(
            costs,
            A_ub=np.vstack(above),
            b_ub=np.concatenate(most),
            A_eq=total,
            b_eq=None if total is None else np.ones(1),
            bounds=[(low, 1.0)] * width + [(None, None)],
            method="highs",
            options={"time_limit": seconds},
        )
    except (ValueError, MemoryError) as error:
        return _none(program, "failed", str(error))
    if found.status != 0:
        late = found.status == 1 and time.perf_counter() - started >= 0.9 * seconds
        return _none(program, "timeout" if late else "failed", str(found.message))
    multipliers = np.maximum(-np.asarray(found.ineqlin.marginals)[:count], 0.0)
    point = np.asarray(found.x, dtype=np.float64)
    return Answer("optimal", point[:-1], multipliers, float(point[-1]))


def _none(program: Lift, status: Status, said: str) -> Answer:
    count, width = program.rows.shape
    return Answer(status, np.zeros(width), np.zeros(count), float("nan"), said)
