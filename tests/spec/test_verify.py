"""The two readings of a spec: on images, and on regions with proofs that need no trust."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError, Undecided
from profiler.spec.language.parser import parse_formula
from profiler.spec.language.tree import (
    And,
    Formula,
    HasConcept,
    Implies,
    Not,
    Or,
    Predicts,
    Requirement,
    Stronger,
)
from profiler.spec.verify import formal, largest, normal
from profiler.spec.verify.certificate import Certificate, from_json, to_json
from profiler.spec.verify.exact import Exact
from profiler.spec.verify.formal import Outcome, check_region
from profiler.spec.verify.interpretation import Interpretation, Linear
from profiler.spec.verify.largest import largest_gamma
from profiler.spec.verify.linear_program import Answer, Lift, highs
from profiler.spec.verify.normal import Above, Way, ways_to_fail
from profiler.spec.verify.rates import Rate, check_images
from profiler.spec.verify.refutation import Refutation, clearly_refutes, refutes
from profiler.spec.verify.regions import Ball, Box, Hull, Region

Floats = np.ndarray
Check = Callable[[Formula, Interpretation, Region], Outcome]

# Two features. Class a wins where z0 is larger, b where z1 is. Concept p is z0, q is z1, r is 1.
PLAIN = Interpretation(
    Linear(("a", "b"), np.eye(2), np.zeros(2)),
    Linear(("p", "q", "r"), np.array([[1.0, 0], [0, 1], [0, 0]]), np.array([0.0, 0, 1])),
)


def box(*sides: tuple[float, float]) -> Box:
    low, high = np.array(sides).T
    return Box(low, high)


# --- on images -----------------------------------------------------------------------------------

POINTS = np.array([[3.0, 1], [2, 0], [1, 2], [1, 1], [0, 5]])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("predict(x, a)", [1, 1, 0, 1, 0]),  # the tie at (1, 1) predicts both
        ("predict(x, b)", [0, 0, 1, 1, 1]),
        (">(x, p, q)", [1, 1, 0, 0, 0]),  # … and makes neither concept stronger
        (">(x, p, r)", [1, 1, 0, 0, 0]),
        ("predict(x, a) and not >(x, p, q)", [0, 0, 0, 1, 0]),
        ("predict(x, a) => >(x, q, r)", [0, 0, 1, 0, 1]),
        (">(x, q, r) or >(x, p, r)", [1, 1, 1, 0, 1]),
        ("hasCon(x, wet) => predict(x, b)", [1, 0, 1, 1, 1]),
    ],
)
def test_what_holds_of_five_images(text: str, holds: list[int]) -> None:
    facts = PLAIN.of(POINTS, {"wet": np.array([0, 1, 1, 1, 0], dtype=bool)})
    assert facts.holds(parse_formula(text)).tolist() == [bool(each) for each in holds]


def test_rates_by_class_and_in_all_and_where_the_spec_says_something() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    found = check_images(
        parse_formula("predict(x, a) => >(x, q, r)"),
        PLAIN.of(POINTS),
        truth,
        [Requirement("rate", 0.4), Requirement("applicable rate", 0.4)],
    )
    assert found.rate == Rate(2, 5)
    assert found.applicable == Rate(0, 3)  # (3,1), (2,0) and (1,1) are predicted a
    assert [(each.label, each.rate, each.applicable) for each in found.by_class] == [
        ("a", Rate(0, 2), Rate(0, 2)),
        ("b", Rate(2, 3), Rate(0, 1)),
    ]
    assert sum((each.rate for each in found.by_class), Rate(0, 0)) == found.rate
    assert found.violations.tolist() == [0, 1, 3]
    assert [each.outcome for each in found.judged] == ["passed", "failed"]
    assert found.outcome == "failed"
    low, high = found.rate.interval()
    assert (round(low, 3), round(high, 3)) == (0.118, 0.769)  # Wilson, 2 of 5


def test_a_requirement_without_an_image_to_judge_by_is_undecided() -> None:
    spec = parse_formula("predict(x, a) => >(x, p, q)")
    found = check_images(
        spec, PLAIN.of(POINTS[4:]), np.array([1]), [Requirement("applicable rate", 0.0)]
    )
    assert found.rate == Rate(1, 1)
    assert found.outcome == "undecided"


def test_what_applies() -> None:
    facts = PLAIN.of(POINTS)
    each = parse_formula("(predict(x, a) => >(x, p, r)) and (predict(x, b) => >(x, q, r))")
    assert facts.applies(each).all()
    nested = parse_formula("predict(x, a) => >(x, p, q) => >(x, q, r)")
    assert facts.applies(nested).tolist() == [True, True, False, False, False]
    assert facts.applies(parse_formula("not predict(x, a)")).all()


def test_what_is_not_annotated_cannot_be_asked() -> None:
    with pytest.raises(InputError, match=r"hasCon\(x, wet\) needs annotated images"):
        PLAIN.of(POINTS).holds(parse_formula("hasCon(x, wet)"))


# --- on regions ----------------------------------------------------------------------------------

PROVED = [
    (">(x, p, q)", box((2, 3), (0, 1))),
    (">(x, p, q) or >(x, q, p) or predict(x, a)", box((0, 3), (0, 3))),
    ("predict(x, a) => >(x, p, q) or not >(x, q, p)", box((-9, 9), (-9, 9))),
    # By logic alone, on any region.
    (">(x, p, q) and >(x, q, r) => >(x, p, r)", box((-9, 9), (-7, 9))),
    # Three rows are refuted only together: z0 ≥ z1, z1 ≥ 1 and 1 > z0.
    ("predict(x, a) and not >(x, r, q) => not >(x, r, p)", box((-9, 9), (-9, 9))),
    (">(x, p, q)", Hull(np.array([[1.0, 0], [3, 2], [2, -5]]))),
    (">(x, p, q)", Ball(np.array([2.0, 0]), 1.41)),
    # Each row can be positive within the ball, both at once cannot: the corner (2, 2) lies outside.
    ("not (>(x, p, r) and >(x, q, r))", Ball(np.zeros(2), 1.41)),
]
VIOLATED = [
    (">(x, p, q)", box((2, 3), (0, 2.5))),
    ("predict(x, a) => >(x, q, r)", box((0, 3), (0, 3))),
    ("not (>(x, p, r) and >(x, q, r))", box((0, 1.01), (0, 1.01))),
    (">(x, p, q)", Hull(np.array([[1.0, 0], [0, 2]]))),
    (">(x, p, q)", Ball(np.array([2.0, 0]), 1.42)),
    ("not (>(x, p, r) and >(x, q, r))", Ball(np.zeros(2), 1.42)),
]


def by_programs(formula: Formula, world: Interpretation, region: Region) -> Outcome:
    """The check without closed forms: the solver answers everything."""
    with mock.patch.object(formal._Search, "_by_one_row", return_value=None):
        return check_region(formula, world, region)


@pytest.mark.parametrize("check", [check_region, by_programs])
@pytest.mark.parametrize(("text", "region"), PROVED)
def test_proofs_by_hand(text: str, region: Region, check: Check) -> None:
    found = check(parse_formula(text), PLAIN, region)
    assert found.verdict == "proved", found.reason
    assert len(found.refutations) == found.ways
    assert all(refutes(each, PLAIN, region) for each in found.refutations)


@pytest.mark.parametrize("check", [check_region, by_programs])
@pytest.mark.parametrize(("text", "region"), VIOLATED)
def test_counterexamples_by_hand(text: str, region: Region, check: Check) -> None:
    found = check(parse_formula(text), PLAIN, region)
    assert found.verdict == "violated", found.reason
    assert found.counterexample
    z = found.counterexample.z
    assert region.holds(z)
    assert not PLAIN.of(z[None]).holds(parse_formula(text))[0]
    assert found.counterexample.margin > 0


def test_the_margin_is_the_distance_to_the_plane() -> None:
    # z1 − z0 ≥ 0 is violated most at (2, 2.5): 0.5 above, at 0.5/√2 from the plane.
    found = check_region(parse_formula(">(x, p, q)"), PLAIN, box((2, 3), (0, 2.5)))
    assert found.counterexample
    assert found.counterexample.z.tolist() == [2, 2.5]
    assert found.counterexample.margin == pytest.approx(0.5 / np.sqrt(2))


@pytest.mark.parametrize("check", [check_region, by_programs])
def test_strict_and_not_strict_differ_on_the_edge(check: Check) -> None:
    # On this box z0 ≤ 1 everywhere, and z0 = 1 on its edge. "p is stronger than r" fails there.
    edge = box((0, 1), (0, 1))
    never = check(parse_formula("not >(x, p, r)"), PLAIN, edge)
    assert never.verdict == "proved"
    # … and "r is stronger than p" fails on the edge alone: nothing in floats can be sure of it.
    touching = check(parse_formula(">(x, r, p)"), PLAIN, edge)
    assert touching.verdict == "undecided"
    assert "numerical doubt" in touching.reason


def test_a_tautology_needs_no_program_and_a_contradiction_fails_everywhere() -> None:
    anywhere = box((0, 1), (0, 1))
    certain = check_region(parse_formula(">(x, p, q) or not >(x, p, q)"), PLAIN, anywhere)
    assert (certain.verdict, certain.ways, certain.programs) == ("proved", 0, 0)
    never = check_region(parse_formula(">(x, p, q) and not >(x, p, q)"), PLAIN, anywhere)
    assert never.verdict == "violated"


def test_annotations_leave_open_only_what_hangs_on_them() -> None:
    region = box((2, 3), (0, 1))
    open_ = check_region(parse_formula("hasCon(x, wet) => >(x, q, p)"), PLAIN, region)
    assert open_.verdict == "undecided"
    assert "hasCon of wet" in open_.reason
    assert (
        check_region(parse_formula("hasCon(x, wet) => >(x, p, q)"), PLAIN, region).verdict
        == "proved"
    )
    assert (
        check_region(parse_formula("hasCon(x, wet) and >(x, q, p)"), PLAIN, region).verdict
        == "violated"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box(np.array([1.0, 0]), np.array([0.0, 1])),
        lambda: Box.around(np.array([-2.0, 1]), np.ones(2), 1.0, positive=True),
        lambda: Box.around(np.zeros(2), np.ones(2), -0.1),
        lambda: Box.around(np.zeros(2), np.ones(2), float("nan")),
        lambda: Hull(np.zeros((0, 2))),
        lambda: Ball(np.zeros(2), -1.0),
    ],
)
def test_an_empty_region_is_an_error_not_a_proof(make: Callable[[], Region]) -> None:
    with pytest.raises(InputError, match="the region is empty"):
        make()


def test_a_box_is_cut_where_features_cannot_be_negative() -> None:
    cut = Box.around(np.array([1.0, 4]), np.array([1.0, 1]), 2, positive=True)
    assert (cut.low.tolist(), cut.high.tolist()) == ([0, 2], [3, 6])


# --- solvers that fail ---------------------------------------------------------------------------

TWO_ROWS = parse_formula("predict(x, a) => >(x, p, r)")


def says(status: str, lift: float = float("nan")) -> Callable[[Lift, float], Answer]:
    def solver(program: Lift, seconds: float) -> Answer:
        count, width = program.rows.shape
        point = np.full(width, 1 / width if program.weights else 0.0)
        return Answer(status, point, np.ones(count), lift, said=f"forced {status}")  # type: ignore[arg-type]

    return solver


@pytest.mark.parametrize("status", ["timeout", "failed", "unbounded", "infeasible?"])
@pytest.mark.parametrize("region", [box((0, 3), (0, 3)), Ball(np.ones(2), 1.0), Hull(np.eye(2))])
def test_any_status_but_optimal_is_undecided(
    status: str, region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formal, "highs", says(status))
    found = check_region(TWO_ROWS, PLAIN, region)
    assert found.verdict == "undecided"
    assert found.reason


@pytest.mark.parametrize("status", ["timeout", "failed", "infeasible?"])
def test_a_right_answer_under_an_odd_status_is_none(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solver(program: Lift, seconds: float) -> Answer:
        return replace(highs(program, seconds), status=status)  # type: ignore[arg-type]

    for region, verdict in ((box((0, 3), (0, 3)), "violated"), (box((2, 3), (0, 1)), "proved")):
        formula = TWO_ROWS if verdict == "violated" else parse_formula(">(x, p, q)")
        for used, expected in ((highs, verdict), (solver, "undecided")):
            monkeypatch.setattr(formal, "highs", used)
            assert by_programs(formula, PLAIN, region).verdict == expected


@pytest.mark.parametrize("lift", [-5.0, 0.0, 5.0, float("nan")])
def test_a_solver_that_lies_proves_nothing(lift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # It claims "impossible" (or "possible") with weights and a point that show neither.
    monkeypatch.setattr(formal, "highs", says("optimal", lift))
    possible = box((0, 3), (0, 3))
    assert check_region(TWO_ROWS, PLAIN, possible).verdict != "proved"
    impossible = box((2, 3), (0, 1))
    assert by_programs(TWO_ROWS, PLAIN, impossible).verdict != "violated"


def test_no_time_is_no_verdict() -> None:
    found = check_region(TWO_ROWS, PLAIN, box((0, 3), (0, 3)), seconds=0.0)
    assert found.verdict == "undecided"
    assert "within 0 s" in found.reason


def test_a_real_time_limit_ends_as_undecided() -> None:
    rng = np.random.default_rng(0)
    program = Lift(rng.normal(size=(400, 600)), rng.normal(size=400) - 1, weights=False)
    assert highs(program, 1e-6).status == "timeout"
    assert highs(program, 0.0).status == "timeout"
    assert highs(program, 60.0).status == "optimal"


def test_nan_in_a_program_is_a_failure_not_a_crash() -> None:
    assert highs(Lift(np.full((1, 2), np.nan), np.zeros(1), weights=False), 9).status == "failed"


def test_too_many_ways_are_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normal, "MOST_WAYS", 3)
    pairs = ((">(x, p, q)", ">(x, q, r)"), (">(x, q, p)", ">(x, r, p)"))
    text = " or ".join(f"({one} and {two})" for one, two in pairs * 3)
    with pytest.raises(Undecided, match="more than 3 ways"):
        ways_to_fail(parse_formula(text), ("a", "b"))
    found = check_region(parse_formula(text), PLAIN, box((0, 1), (0, 1)))
    assert (found.verdict, found.ways) == ("undecided", 0)


# --- the two readings agree ----------------------------------------------------------------------


def random_world(rng: np.random.Generator) -> tuple[Interpretation, tuple[str, ...]]:
    """A random head, and concepts through a random map, over two to six features."""
    features, classes, concepts = rng.integers(2, 7), rng.integers(2, 6), rng.integers(2, 7)
    into = rng.normal(size=(concepts, 5)) @ rng.normal(size=(5, features))
    labels = tuple(f"k{i}" for i in range(classes))
    return (
        Interpretation(
            Linear(labels, rng.normal(size=(classes, features)), rng.normal(size=classes)),
            Linear(tuple(f"c{i}" for i in range(concepts)), into, rng.normal(size=concepts)),
        ),
        labels,
    )


def random_formula(rng: np.random.Generator, world: Interpretation, depth: int) -> Formula:
    kind = rng.integers(5) if depth else 0
    if kind == 0:
        if rng.random() < 0.4:
            return Predicts(str(rng.choice(world.classes.names)))
        one, two = rng.choice(world.concepts.names, 2, replace=False)
        return Stronger(str(one), str(two))
    if kind == 1:
        return Not(random_formula(rng, world, depth - 1))
    parts = tuple(random_formula(rng, world, depth - 1) for _ in range(2))
    if kind == 4:
        return Implies(*parts)
    return (And if kind == 2 else Or)(parts)


def random_region(rng: np.random.Generator, features: int) -> tuple[Region, Floats]:
    """A region, and 10 000 points inside."""
    middle, spread = rng.normal(size=features), rng.uniform(0.1, 1, features)
    size = rng.choice([0.1, 0.5, 2.0])
    kind = rng.integers(4)
    if kind < 2:
        region = Box.around(np.abs(middle), spread, size, positive=bool(kind))
        share = rng.random((10_000, features))
        share = np.where(rng.random(share.shape) < 0.3, share.round(), share)  # and the edges
        return region, region.low + share * (region.high - region.low)
    if kind == 2:
        points = middle + size * spread * rng.normal(size=(rng.integers(1, 9), features))
        return Hull(points), rng.dirichlet(np.full(len(points), 0.5), 10_000) @ points
    steps = rng.normal(size=(10_000, features))
    steps *= (rng.random((10_000, 1)) ** (1 / features)) / np.linalg.norm(steps, axis=1)[:, None]
    return Ball(middle, float(size)), middle + size * steps


def compare_readings(seed: int) -> str:
    rng = np.random.default_rng([26, seed])
    world, _ = random_world(rng)
    formula = random_formula(rng, world, int(rng.integers(1, 4)))
    region, samples = random_region(rng, world.features)
    found = check_region(formula, world, region)
    direct = by_programs(formula, world, region)
    holds = world.of(samples).holds(formula)
    if found.verdict == "proved":
        assert holds.all(), f"seed {seed}: {formula} is proved, and refuted by a sample"
        # Whatever floats made certain, rationals confirm.
        assert all(refutes(each, world, region) for each in found.refutations)
        proof = Certificate("s", "r", formula, world, region, found.refutations)
        (again,) = from_json(json.loads(json.dumps(to_json([proof], {}))))
        assert again.complaint() == ""
    if found.verdict == "violated":
        assert found.counterexample
        z = found.counterexample.z
        assert region.holds(z)
        assert not world.of(z[None]).holds(formula)[0]
    if not holds.all():
        assert found.verdict == "violated", f"seed {seed}: {found.verdict}: {found.reason}"
    if found.verdict == "undecided":
        # Only where it fails on a plane, as "a over b, or b over a" does where they are equal.
        assert "0 within rounding" in found.reason
    assert {found.verdict, direct.verdict} != {"proved", "violated"}
    return found.verdict


def tally(seeds: range) -> dict[str, int]:
    verdicts = [compare_readings(seed) for seed in seeds]
    return {verdict: verdicts.count(verdict) for verdict in ("proved", "violated", "undecided")}


def test_the_two_readings_never_contradict_each_other() -> None:
    found = tally(range(60))
    assert found["undecided"] <= 1
    assert min(found["proved"], found["violated"]) > 10


@pytest.mark.slow
def test_the_two_readings_never_contradict_each_other_a_thousand_times() -> None:
    found = tally(range(1000))
    assert found["undecided"] <= 10
    assert min(found["proved"], found["violated"]) > 200


def test_of_many_classes_those_that_matter_enter_the_program() -> None:
    verdicts = []
    for seed in range(12):
        rng = np.random.default_rng([9, seed])
        names = tuple(f"k{i}" for i in range(60))
        world = Interpretation(
            Linear(names, rng.normal(size=(60, 5)), rng.normal(size=60)),
            Linear(("p", "q"), rng.normal(size=(2, 5)), np.zeros(2)),
        )
        region = Box.around(rng.normal(size=5), np.ones(5), 1.0)
        inside = region.low + rng.random((4000, 5)) * (region.high - region.low)
        likely = np.bincount(world.classes(inside).argmax(axis=1), minlength=60)
        for label in (int(likely.argmax()), int(rng.integers(60))):
            formula = Implies(Predicts(f"k{label}"), Stronger("p", "q"))
            found = check_region(formula, world, region)
            assert found.verdict in ("proved", "violated"), found.reason
            if not world.of(inside).holds(formula).all():
                assert found.verdict == "violated"
            verdicts.append(found.verdict)
    assert set(verdicts) == {"proved", "violated"}


def test_what_logic_alone_says_is_proved_whatever_the_planes() -> None:
    formula = parse_formula(">(x, c0, c1) and >(x, c1, c2) => >(x, c0, c2)")
    for seed in range(20):
        rng = np.random.default_rng([10, seed])
        world = Interpretation(
            Linear(("a", "b"), np.zeros((2, 6)), np.zeros(2)),
            Linear(("c0", "c1", "c2"), rng.normal(size=(3, 6)), rng.normal(size=3)),
        )
        region = Box.around(rng.normal(size=6), rng.uniform(0.1, 2, 6), 3.0)
        assert check_region(formula, world, region).verdict == "proved"


def test_the_closed_form_is_what_the_linear_program_finds() -> None:
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        features = int(rng.integers(1, 40))
        row, offset = rng.normal(size=features), rng.normal()
        mean, spread = rng.normal(size=features), rng.uniform(0, 1, features)
        gamma = rng.uniform(0, 2)
        region = Box.around(mean, spread, gamma)
        by_hand = row @ mean + offset + gamma * np.abs(row) @ spread
        solved = highs(
            Lift((row * region.half)[None], np.array([row @ region.centre + offset]), False), 9
        )
        assert solved.lift == pytest.approx(by_hand, abs=1e-7)
        assert region.highest(row[None])[0] + offset == pytest.approx(by_hand, abs=1e-7)
        exact = (region.exactly_highest(Exact.of(row)) + Exact.of(np.array(offset))).fraction()
        assert float(exact) == pytest.approx(by_hand, abs=1e-12)


# --- the largest γ -------------------------------------------------------------------------------


def test_the_largest_gamma_is_the_closed_form() -> None:
    """γ = −(row·μ + offset) / Σ |row_j| σ_j."""
    for seed in range(20):
        rng = np.random.default_rng([8, seed])
        world, _ = random_world(rng)
        mean, spread = rng.normal(size=world.features), rng.uniform(0.1, 1, world.features)
        row = world.concepts.rows[1] - world.concepts.rows[0]
        offset = world.concepts.offsets[1] - world.concepts.offsets[0]
        expected = -float(row @ mean + offset) / float(np.abs(row) @ spread)

        def at(gamma: float, world=world, mean=mean, spread=spread) -> Outcome:  # type: ignore[no-untyped-def]
            return check_region(Stronger("c0", "c1"), world, Box.around(mean, spread, gamma))

        found = largest_gamma(at)
        if expected < 0:
            assert found.gamma is None
            assert found.failure
            assert found.failure.verdict == "violated"
        else:
            assert found.gamma == pytest.approx(expected, rel=2e-3, abs=2e-3)
            assert found.gamma <= expected <= found.beyond
            assert found.outcome.verdict == "proved"


def test_what_never_fails_is_proved_as_far_as_was_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(largest, "WIDEST", 8)
    found = largest_gamma(
        lambda gamma: check_region(
            parse_formula(">(x, p, q) or not >(x, p, q)"),
            PLAIN,
            Box.around(np.zeros(2), np.ones(2), gamma),
        ),
    )
    assert (found.gamma, found.beyond) == (8, float("inf"))


# --- certificates --------------------------------------------------------------------------------


def certificate() -> Certificate:
    formula = parse_formula("predict(x, a) and not >(x, r, q) => not >(x, r, p)")
    region = box((-9, 9), (-9, 9))
    found = check_region(formula, PLAIN, region)
    return Certificate("three", "a box", formula, PLAIN, region, found.refutations)


def test_a_certificate_survives_its_file() -> None:
    written = json.loads(json.dumps(to_json([certificate()], {"model": "plain"})))
    assert written["context"] == {"model": "plain"}
    (read,) = from_json(written)
    assert (read.spec, read.on) == ("three", "a box")
    assert read.complaint() == ""


def damage(change: Callable[[dict], None]) -> str:  # type: ignore[type-arg]
    content = json.loads(json.dumps(to_json([certificate()], {})))
    change(content)
    return from_json(content)[0].complaint()


def proof(content: dict) -> dict:  # type: ignore[type-arg]
    return content["proofs"][0]  # type: ignore[no-any-return]


def test_a_certificate_that_was_changed_does_not_hold() -> None:
    def weight(content: dict, value: float) -> None:  # type: ignore[type-arg]
        proof(content)["refutations"][0]["weights"][0] = value.hex()

    assert "does not hold" in damage(lambda content: weight(content, 0.25))
    assert "does not hold" in damage(lambda content: weight(content, -1.0))
    assert "does not hold" in damage(lambda content: weight(content, float("inf")))
    assert "does not hold" in damage(lambda content: weight(content, float("nan")))
    # A way left out, or another spec.
    assert "not refuted" in damage(lambda content: proof(content)["refutations"].clear())
    assert "not refuted" in damage(
        lambda content: proof(content).update(formula=">(x, p, q) and predict(x, a)")
    )
    # A way that is not the one its rows are of.
    elsewhere = Refutation(
        Way((Above("concept", "p", "q", True),), (), ()),
        (Above("concept", "p", "p", True),),
        (1.0,),
    )
    assert not refutes(elsewhere, PLAIN, box((0, 1), (0, 1)))


def test_a_certificate_cannot_name_planes_that_it_does_not_hold() -> None:
    content = to_json([certificate()], {})
    planes = content["concepts"]
    assert planes["places"] == [0, 1, 2]
    two = base64.b64encode(base64.b64decode(planes["rows"])[:32]).decode()
    planes.update(places=[0, 1], rows=two, offsets=base64.b64encode(bytes(16)).decode())
    with pytest.raises(InputError, match="names planes of 'q' and 'r', which are not in the file"):
        from_json(content)
    for broken in (None, {}, {"format": "x"}, {**to_json([certificate()], {}), "regions": 3}):
        with pytest.raises(InputError):
            from_json(broken)


# --- exactness -----------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=5))
@settings(deadline=None)
def test_sums_and_products_are_those_of_fractions(pairs: list[tuple[float, float]]) -> None:
    one, two = np.array(pairs).T
    expected = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
    assert (Exact.of(one) @ Exact.of(two)).fraction() == expected
    assert (Exact.of(one) * Exact.of(two)).sum().fraction() == expected
    both = Exact.of(one) + Exact.of(two)
    assert both.sum().fraction() == sum((Fraction(a) + Fraction(b) for a, b in pairs), Fraction(0))
    assert (Exact.of(one) - Exact.of(one)).sum().fraction() == 0
    assert Exact.of(one).max().fraction() == Fraction(max(one))


def test_a_proof_is_not_fooled_by_rounding() -> None:
    # In floats (0.1 + 0.2) − 0.3 is 5.6e-17 and in rationals of these floats 2.8e-17: above zero
    # at the only point there is, so nothing may be proved.
    world = Interpretation(
        Linear(("a", "b"), np.zeros((2, 3)), np.zeros(2)),
        Linear(("p", "q"), np.array([[1.0, 1, -1], [0, 0, 0]]), np.zeros(2)),
    )
    point = np.array([0.1, 0.2, 0.3])
    found = check_region(Not(Stronger("p", "q")), world, Box(point, point))
    assert found.verdict == "undecided"
    # One unit in the last place less, and it is proved.
    least = np.array([0.1, np.nextafter(0.2, 0), 0.3])
    assert check_region(Not(Stronger("p", "q")), world, Box(least, least)).verdict == "proved"


def test_floats_say_yes_only_where_rationals_would() -> None:
    # Planes of size 1e8 that nearly cancel: U is −1e-9, which no sum of such floats can tell.
    world = Interpretation(
        Linear(("a", "b"), np.zeros((2, 1)), np.zeros(2)),
        Linear(("p", "q"), np.array([[1e8], [1e8]]), np.array([-1e-9, 0.0])),
    )
    row = Above("concept", "p", "q", True)
    tiny = Refutation(Way((row,), (), ()), (row,), (1.0,))
    region = box((-1, 1))
    assert not clearly_refutes(tiny, world, region)
    assert refutes(tiny, world, region)
    assert check_region(Not(Stronger("p", "q")), world, region).verdict == "proved"
    clear = Interpretation(world.classes, Linear(("p", "q"), np.zeros((2, 1)), np.array([-1, 0.0])))
    assert clearly_refutes(tiny, clear, region)
    negative = Refutation(Way((row,), (), ()), (row,), (-1.0,))
    assert not clearly_refutes(negative, clear, region)


def test_worlds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="the head reads 2 features, the linear alignment 3"):
        Interpretation(
            Linear(("a",), np.zeros((1, 2)), np.zeros(1)),
            Linear(("p",), np.zeros((1, 3)), np.zeros(1)),
        )
    with pytest.raises(InputError, match="a region of 3 features"):
        check_region(parse_formula(">(x, p, q)"), PLAIN, box((0, 1), (0, 1), (0, 1)))
    with pytest.raises(InputError, match="NaN"):
        Linear(("a",), np.full((1, 2), np.nan), np.zeros(1))
    assert check_region(HasConcept("p"), PLAIN, box((0, 1), (0, 1))).verdict == "undecided"
