"""The formal check: whether a spec holds for every point of a region.

Each way in which the spec can fail (:mod:`profiler.spec.verify.normal`) asks whether some rows can
all be positive at once. A single row has a closed form; for several, a linear program says how far
all of them can be lifted above zero. Below: the way is refuted, by weights that are checked again
without trust in any rounding. Above: its point is a counterexample, which is evaluated again.
Anything else, a solver out of time, an odd status, a doubtful sign, leaves the spec undecided.

The rows of a predicted class are many, and few of them matter: they enter the program as they are
violated.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from profiler.core.arrays import Float64
from profiler.errors import InputError, Undecided
from profiler.spec.language.tree import Formula, HasConcept
from profiler.spec.verify.interpretation import Interpretation
from profiler.spec.verify.linear_program import Answer, Lift, highs
from profiler.spec.verify.normal import Above, Way, ways_to_fail
from profiler.spec.verify.refutation import Refutation, clearly_refutes, refutes
from profiler.spec.verify.regions import Ball, Box, Hull, Region

Verdict = Literal["proved", "violated", "undecided"]

SECONDS = 60.0
"""For one spec on one region, unless told otherwise."""
ROUNDS = 400
"""Programs for one way, at most."""
_FIRST_ROWS, _MORE_ROWS = 8, 24
"""Of the rows of predicted classes: how many enter first, and how many later at a time."""
_NEAR = 1e-6
"""Lifts below this, as a share of the rows' size, are tried as refutations."""
_TINY = 1e-9
"""Weights below this share of the largest are rounding."""
_LARGEST_WHOLE = 1000
"""Weights are tried as whole numbers up to here."""


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A point of the region at which the spec does not hold.

    Attributes:
        z: (f,).
        margin: distance, in feature space, to the nearest plane beyond which this way of failing
            ends.
        way: how it fails.
    """

    z: Float64
    margin: float
    way: Way


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the formal check found.

    Attributes:
        verdict: ``proved``, ``violated`` or ``undecided``.
        seconds: it took.
        ways: in which the spec can fail.
        refutations: one a way, where proved.
        counterexample: where violated.
        reason: why it is undecided; empty otherwise.
        programs: linear programs solved.
    """

    verdict: Verdict
    seconds: float
    ways: int
    refutations: tuple[Refutation, ...] = ()
    counterexample: Counterexample | None = None
    reason: str = ""
    programs: int = 0


def check_region(
    formula: Formula,
    interpretation: Interpretation,
    region: Region,
    *,
    seconds: float = SECONDS,
) -> Outcome:
    """The formal check of one spec on one region.

    Args:
        formula: without quantifiers.
        interpretation: what its atoms mean.
        region: not empty, as every :class:`Region` is.
        seconds: after which it stays undecided.
    """
    if region.features != interpretation.features:
        raise InputError(
            f"a region of {region.features} features for a classifier of {interpretation.features}"
        )
    search = _Search(interpretation, region, seconds)
    try:
        ways = ways_to_fail(formula, interpretation.classes.names)
    except Undecided as error:
        return search.outcome("undecided", 0, reason=str(error))
    refutations: list[Refutation] = []
    doubts: list[str] = []
    for way in ways:
        found = search.look(way)
        if isinstance(found, Refutation):
            refutations.append(found)
        elif isinstance(found, str):
            doubts.append(found)
        elif way.annotated:
            names = ", ".join(sorted({each.concept for each in way.annotated}))
            doubts.append(f"hasCon of {names} is an annotation; no region of features decides it")
        elif _fails(formula, interpretation, found.z):
            return search.outcome("violated", len(ways), counterexample=found)
        else:
            doubts.append("a counterexample was found, but evaluated it is none: numerical doubt")
    if doubts:
        return search.outcome("undecided", len(ways), reason=doubts[0])
    return search.outcome("proved", len(ways), refutations=tuple(refutations))


def _fails(formula: Formula, interpretation: Interpretation, z: Float64) -> bool:
    """Whether the spec, evaluated at a point, does not hold, whatever the annotations."""
    concepts = {node.concept for node in formula.nodes() if isinstance(node, HasConcept)}
    absent = {concept: np.zeros(1, dtype=bool) for concept in concepts}
    return not bool(interpretation.of(z[None], absent).holds(formula)[0])


@dataclass(eq=False)
class _Rows:
    """The rows that a way wants positive, as floats."""

    rows: Float64
    """(P, f)."""
    offsets: Float64
    """(P,)."""
    sizes: Float64
    """(P,) ‖row‖, or 1 where that is 0."""
    above: Sequence[Above]
    """(P,)."""
    direct: int
    """So many come first; the others are those of predicted classes."""


@dataclass(eq=False)
class _Search:
    """Looks through the ways of one spec on one region."""

    interpretation: Interpretation
    region: Region
    seconds: float
    started: float = field(default_factory=time.perf_counter)
    programs: int = 0
    _single: dict[Above, bool] = field(default_factory=dict)
    """Whether a row is nowhere positive."""

    def outcome(self, verdict: Verdict, ways: int, **found: Any) -> Outcome:
        seconds = time.perf_counter() - self.started
        return Outcome(verdict, seconds, ways, programs=self.programs, **found)

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.started)

    def look(self, way: Way) -> Refutation | Counterexample | str:
        """Refute a way, or find a point where it is possible, or say why neither was done."""
        if self.left <= 0:
            return f"no verdict within {self.seconds:g} s"
        rows = self._rows(way)
        if not rows.above:
            # Nothing has to be positive: only annotations are wanted, or there is one class.
            return Counterexample(self.region.centre, np.inf, way)
        highest = self.region.highest(rows.rows) + rows.offsets
        return self._by_one_row(way, rows, highest) or self._by_programs(way, rows, highest)

    def _rows(self, way: Way) -> _Rows:
        blocks, offsets, above = [], [], list(way.rows)
        for row in way.rows:
            among = self.interpretation.among(row.of)
            high, low = among.index[row.high], among.index[row.low]
            blocks.append((among.rows[high] - among.rows[low])[None])
            offsets.append(among.offsets[high : high + 1] - among.offsets[low : low + 1])
        among = self.interpretation.classes
        for label in way.tops:
            others = [name for name in among.names if name != label]
            places = [among.index[name] for name in others]
            high = among.index[label]
            blocks.append(among.rows[high] - among.rows[places])
            offsets.append(among.offsets[high] - among.offsets[places])
            above += [Above("class", label, name, strict=False) for name in others]
        if not above:
            empty = np.zeros((0, self.interpretation.features))
            return _Rows(empty, np.zeros(0), np.zeros(0), (), 0)
        rows = np.concatenate(blocks)
        sizes = np.linalg.norm(rows, axis=1)
        sizes[sizes == 0] = 1.0
        return _Rows(rows, np.concatenate(offsets), sizes, above, len(way.rows))

    def _by_one_row(
        self, way: Way, rows: _Rows, highest: Float64
    ) -> Refutation | Counterexample | str | None:
        """A row that is nowhere positive refutes its way alone; a lone row has a closed form."""
        for place in np.argsort(highest / rows.sizes)[:2].tolist():
            row = rows.above[place]
            if highest[place] > _NEAR * rows.sizes[place]:
                break
            if row not in self._single:
                self._single[row] = self._stands(Refutation(Way((row,), (), ()), (row,), (1.0,)))
            if self._single[row]:
                return Refutation(way, (row,), (1.0,))
        if len(rows.above) > 1:
            return None
        z = self.region.where_highest(rows.rows[0])
        return self._point(way, rows, z) or _doubt(float(highest[0] / rows.sizes[0]))

    def _stands(self, found: Refutation) -> bool:
        """Whether a refutation is beyond doubt; in rational arithmetic where floats leave any."""
        return clearly_refutes(found, self.interpretation, self.region) or refutes(
            found, self.interpretation, self.region
        )

    def _by_programs(
        self, way: Way, rows: _Rows, highest: Float64
    ) -> Refutation | Counterexample | str:
        lifted = _LIFTED[type(self.region)](self.region, rows)
        order = np.argsort(highest[rows.direct :] / rows.sizes[rows.direct :]) + rows.direct
        active = [*range(rows.direct), *order[:_FIRST_ROWS].tolist()]
        answer: Answer | None = None
        for _ in range(ROUNDS):
            program = lifted.program(active)
            self.programs += 1
            answer = highs(program, self.left)
            if answer.status == "timeout":
                return f"no verdict within {self.seconds:g} s"
            if answer.status != "optimal" or not np.isfinite(answer.lift):
                return f"the solver gave no answer: {answer.said or answer.status}"
            if answer.lift <= _NEAR:
                answers = [answer, *self._strictly(program, rows, active, answer)]
                for found in _weighted(way, rows, active, answers):
                    if self._stands(found):
                        return found
            z, inside = lifted.point(answer.point)
            if point := self._point(way, rows, z):
                return point
            margins = (rows.rows @ z + rows.offsets) / rows.sizes
            worse = [
                place
                for place in np.argsort(margins)[:_MORE_ROWS].tolist()
                if place not in active and margins[place] < answer.lift - 1e-12
            ]
            if not worse and inside:
                break
            active += worse
        return _doubt(answer.lift if answer else float("nan"))

    def _strictly(
        self, program: Lift, rows: _Rows, active: Sequence[int], answer: Answer
    ) -> Iterator[Answer]:
        """Where all rows reach 0 and no further, how far the strict ones can be lifted alone."""
        strict = np.array([rows.above[place].strict for place in active])
        if abs(answer.lift) <= _NEAR and strict.any() and not strict.all():
            self.programs += 1
            again = highs(replace(program, lifted=strict), self.left)
            if again.status == "optimal":
                yield again

    def _point(self, way: Way, rows: _Rows, z: Float64) -> Counterexample | None:
        """A counterexample if every row is positive at z beyond rounding."""
        if not self.region.holds(z):
            return None
        values = rows.rows @ z + rows.offsets
        if (values <= self._rounding(rows, z)).any():
            return None
        return Counterexample(z, float((values / rows.sizes).min()), way)

    def _rounding(self, rows: _Rows, z: Float64) -> Float64:
        """(P,) by how much a row's value may be wrong, generously."""
        magnitude = np.abs(z)
        terms = np.zeros(len(rows.above))
        sizes = {}
        for of in ("class", "concept"):
            among = self.interpretation.among(of)
            sizes[of] = np.abs(among.rows) @ magnitude + np.abs(among.offsets)
        for place, row in enumerate(rows.above):
            index = self.interpretation.among(row.of).index
            terms[place] = sizes[row.of][index[row.high]] + sizes[row.of][index[row.low]]
        return terms * (len(z) + 4) * np.finfo(np.float64).eps


def _doubt(lift: float) -> str:
    return f"numerical doubt: the rows can be lifted to {lift:.3g}, which is 0 within rounding"


def _weighted(
    way: Way, rows: _Rows, active: Sequence[int], answers: Iterable[Answer]
) -> Iterator[Refutation]:
    """A solver's multipliers, of scaled rows, as weights of the rows themselves.

    Rows that contradict each other by logic alone (a over b, b over c, c over a) add up to exactly
    0 with the right weights, and to a little more with rounded ones. Those are whole numbers.
    """
    for answer in answers:
        weights = answer.multipliers / rows.sizes[list(active)]
        used = np.flatnonzero(weights > _TINY * weights.max(initial=0.0)).tolist()
        if not used:
            continue
        taken = tuple(rows.above[active[place]] for place in used)
        weights = weights[used]
        yield Refutation(way, taken, tuple(weights.tolist()))
        whole = np.round(weights / weights.min())
        if answer.lift > -_NEAR and whole.max() <= _LARGEST_WHOLE:
            yield Refutation(way, taken, tuple(whole.tolist()))


class _Lifted:
    """A region's points as a linear program's unknowns, those that suit the kind of region."""

    def __init__(self, region: Region, rows: _Rows) -> None:
        self.region = region
        self.rows = rows

    def program(self, active: Sequence[int]) -> Lift:
        """With some of the rows."""
        raise NotImplementedError

    def point(self, unknowns: Float64) -> tuple[Float64, bool]:
        """A point z of the region, and whether it is the solver's own, not one moved inside."""
        raise NotImplementedError


class _OnBox(_Lifted):
    """z = centre + half·u."""

    region: Box

    def program(self, active: Sequence[int]) -> Lift:
        rows, sizes = self.rows.rows[active], self.rows.sizes[active]
        offsets = (rows @ self.region.centre + self.rows.offsets[active]) / sizes
        return Lift(rows * self.region.half / sizes[:, None], offsets, weights=False)

    def point(self, unknowns: Float64) -> tuple[Float64, bool]:
        z = self.region.centre + self.region.half * unknowns
        return np.clip(z, self.region.low, self.region.high), True


class _OnHull(_Lifted):
    """z = Σ u_n z_n."""

    region: Hull

    def program(self, active: Sequence[int]) -> Lift:
        sizes = self.rows.sizes[active]
        values = self.rows.rows[active] @ self.region.points.T
        return Lift(values / sizes[:, None], self.rows.offsets[active] / sizes, weights=True)

    def point(self, unknowns: Float64) -> tuple[Float64, bool]:
        weights = np.maximum(unknowns, 0.0)
        z: Float64 = (weights / weights.sum()) @ self.region.points
        return z, True


class _OnBall(_Lifted):
    """z = middle + radius·Q u in the directions Q of the rows, the ball cut out plane by plane.

    Only the part of z along the rows matters. A point that the program puts outside the ball is
    moved back to the sphere, and the plane that touches the sphere there becomes a cut.
    """

    region: Ball

    def __init__(self, region: Region, rows: _Rows) -> None:
        super().__init__(region, rows)
        self.directions: Float64 = np.zeros((self.region.features, 0))
        self.cuts: list[Float64] = []

    def program(self, active: Sequence[int]) -> Lift:
        rows, sizes = self.rows.rows[active], self.rows.sizes[active]
        self.directions = np.linalg.qr(rows.T)[0]
        offsets = (rows @ self.region.middle + self.rows.offsets[active]) / sizes
        reach = self.region.radius * (rows @ self.directions) / sizes[:, None]
        cuts = np.array(self.cuts) @ self.directions if self.cuts else None
        return Lift(reach, offsets, weights=False, cuts=cuts)

    def point(self, unknowns: Float64) -> tuple[Float64, bool]:
        length = float(np.linalg.norm(unknowns))
        direction = self.directions @ unknowns
        inside = length <= 1 + 1e-9
        if not inside:
            self.cuts.append(direction / length)
        return self.region.middle + self.region.radius * direction / max(length, 1.0), inside


_LIFTED: dict[type, type[_Lifted]] = {Box: _OnBox, Hull: _OnHull, Ball: _OnBall}
