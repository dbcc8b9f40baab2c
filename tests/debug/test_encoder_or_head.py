"""Encoder or head: nets so small that the answer is arithmetic, and input that has none."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from planted_faults import ClassMean

from profiler.activations.observe import Observed
from profiler.concepts.space import AffineMap, ConceptSpace
from profiler.debug.encoder_or_head import (
    ClassGaussians,
    CorrectedHead,
    Fault,
    FaultRule,
    FreshHead,
    Localization,
    NearestHeatmap,
    Shares,
    Witnesses,
    ZeroShot,
    localize_held_out,
)
from profiler.errors import InputError

HEAD, ENCODER, UNDETERMINED = Fault.HEAD, Fault.ENCODER, Fault.UNDETERMINED

# --- a two-class net ---------------------------------------------------------------------------
#
# Class 0 lies east, class 1 north; the encoding is the point itself, with two features of noise.
# The VLM sees the first two numbers, and knows "east" and "north". The head reads z0 against z1.

WEIGHTS = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])


def points(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = 0.1 * rng.normal(size=(len(truth), 4))
    z[np.arange(len(truth)), truth] += 1.0
    return z


def seen(z: np.ndarray, truth: np.ndarray, weights: np.ndarray, pixels: np.ndarray) -> Observed:
    return Observed(
        z, truth, (z @ weights.T).argmax(1), embeddings=pixels[:, :2], drift=np.full(len(z), 0.4)
    )


def world(fault: str) -> tuple[Observed, Observed]:
    """Reference images and misclassified ones, of the net with a fault."""
    truth = np.repeat([0, 1], 30)
    x, new = points(truth), points(truth, seed=1)
    weights, encoded = WEIGHTS.copy(), new
    if fault == "head":  # its rows are swapped: every answer is wrong, every encoding right
        weights = WEIGHTS[::-1]
    else:  # the new images are encoded as the other class: the head reads what it is given
        encoded = new[:, [1, 0, 2, 3]]
    return seen(x, truth, weights, x), seen(encoded, truth, weights, new)


def rules() -> list[FaultRule]:
    truth = np.repeat([0, 1], 30)
    x = points(truth)
    aligned = AffineMap().fit(x, x[:, :2])
    captions = np.array([[[1.0, 0.1], [1.0, -0.1]], [[0.1, 1.0], [-0.1, 1.0]]])
    classes = ConceptSpace.of(["east", "north"], captions, aligned)
    more = np.concatenate([captions, -captions])
    concepts = ConceptSpace.of(["east", "north", "west", "south"], more, aligned)
    return [
        ZeroShot(classes),
        NearestHeatmap(concepts, 2),
        FreshHead(2),
        Witnesses(2, WEIGHTS),
    ]


def localize(
    rules: Sequence[FaultRule], reference: Observed, images: Observed
) -> list[Localization]:
    """Fit each rule on the reference images, and apply it to those of ``images`` that are wrong."""
    errors = images.take(images.wrong)
    return [
        Localization.of(rule.name, errors, rule.fit(reference).locate(errors)) for rule in rules
    ]


NAMES = [rule.name for rule in rules()]


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
@pytest.mark.parametrize(("fault", "place"), [("head", HEAD), ("encoder", ENCODER)])
def test_a_fault_made_by_hand_is_found(fault: str, place: Fault, index: int) -> None:
    reference, images = world(fault)
    assert images.wrong.all()
    (found,) = localize([rules()[index]], reference, images)
    assert (found.verdicts == place).all()
    assert found.total.verdict == place
    assert set(found.pairs) == {(0, 1), (1, 0)}
    assert found.total.images == 60


def test_the_oracle_has_no_standing_where_the_vlm_sees_something_else() -> None:
    reference, images = world("head")
    assert images.embeddings is not None
    turned = np.where(np.arange(60)[:, None] < 10, images.embeddings[:, ::-1], images.embeddings)
    (found,) = localize([rules()[0]], reference, replace(images, embeddings=turned))
    assert (found.verdicts[:10] == UNDETERMINED).all()
    assert (found.verdicts[10:] == HEAD).all()
    assert found.pairs[0, 1] == Shares(head=20, undetermined=10)


def test_only_misclassified_images_are_judged() -> None:
    reference, images = world("encoder")
    mixed = replace(images, predicted=np.where(np.arange(60) < 50, images.truth, images.predicted))
    (found,) = localize([FreshHead(2)], reference, mixed)
    assert len(found.verdicts) == 10
    (nothing,) = localize([FreshHead(2)], reference, replace(images, predicted=images.truth))
    assert nothing.total == Shares()
    assert nothing.total.verdict == UNDETERMINED


# --- witnesses -------------------------------------------------------------------------------


def test_an_encoder_that_drifts_is_guilty_though_a_fresh_head_could_read_it() -> None:
    reference, images = world("head")
    drifting = replace(reference, drift=np.full(60, 1.2))
    rule = Witnesses(2, WEIGHTS).fit(drifting)
    assert (rule.locate(images) == ENCODER).all()
    assert (
        rule.encoder_
        == "the activations of the encoder drift by 1.2 from its batch-normalisation statistics"
    )
    # Without normalisations nothing is known of drift, and the fresh head decides.
    silent = Witnesses(2, WEIGHTS).fit(replace(reference, drift=None))
    assert np.isnan(silent.drift_)
    assert np.mean(silent.locate(replace(images, drift=None)) == HEAD) > 0.9


def test_weights_on_dead_features_tell_on_the_encoder() -> None:
    reference, images = world("head")
    dead = np.array([1.0, 1.0, 0.0, 1.0])
    weights = WEIGHTS + np.array([0, 0, 0.5, 0])  # … the third once lived
    rule = Witnesses(2, weights).fit(replace(reference, features=reference.features * dead))
    assert rule.dead_share_ == pytest.approx(0.5 / 2.5)
    assert rule.encoder_ == "20% of the squared weights of the head are on constant inputs"
    assert (rule.locate(replace(images, features=images.features * dead)) == ENCODER).all()
    # A dead feature that the head does not count on says nothing.
    honest = Witnesses(2, WEIGHTS).fit(replace(reference, features=reference.features * dead))
    assert honest.encoder_ == ""


def test_a_head_that_is_right_on_reference_images_is_cleared() -> None:
    """The encodings can be read, by the old head as by a new one: it was not the head."""
    reference, _ = world("encoder")
    assert not reference.wrong.any()
    new = replace(reference, predicted=1 - reference.truth)
    assert (FreshHead(2).fit(reference).locate(new) == HEAD).all()
    rule = Witnesses(2, WEIGHTS).fit(reference)
    assert rule.gain_ == 0
    assert "nearly as accurate" in rule.encoder_
    assert (rule.locate(new) == ENCODER).all()


def test_a_corrected_head_needs_fewer_images_than_a_fresh_one() -> None:
    """Eight hundred features, of which noise hides what the swapped head still reads."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=800) / 800**0.5
    weights = np.stack([direction, -direction])  # class 0 lies along the direction: swapped

    def drawn(n: int) -> Observed:
        truth = np.arange(n) % 2
        z = rng.normal(size=(n, 800)) + np.where(truth, 3.0, -3.0)[:, None] * direction
        answers = z @ weights.T
        return Observed(z, truth, answers.argmax(1), answers)

    reference, images = drawn(30), drawn(400)
    found = {each.rule: each for each in localize(
        [FreshHead(2), CorrectedHead(2), Witnesses(2, weights)], reference, images
    )}  # fmt: skip
    fresh, corrected = (found[name].total.head_share for name in ("fresh-head", "corrected"))
    assert fresh is not None
    assert corrected is not None
    assert corrected > 0.97 > fresh + 0.02
    assert found["witnesses"].total == found["corrected"].total
    with pytest.raises(InputError, match="needs the classifier's logits"):
        CorrectedHead(2).fit(replace(reference, logits=None))


# --- a fresh head ----------------------------------------------------------------------------


def test_a_fresh_head_separates_what_can_be_separated() -> None:
    rng = np.random.default_rng(0)
    for n, f in ((90, 20), (30, 200)):  # more images than features, and fewer
        truth = np.arange(n) % 3
        centres = 6 * rng.normal(size=(3, f)) / f**0.5
        z = 50 + centres[truth] + rng.normal(size=(n, f)) * 0.3
        found = ClassGaussians(3).fit(z, truth)
        assert found.accuracy_ == 1
        assert (found.predict(z) == truth).all()
        assert (found.held_out_ == truth).all()


def test_distances_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    for n, f in ((60, 5), (6, 12)):
        truth = np.arange(n) % 2
        z = rng.normal(size=(n, f)) * np.arange(1, f + 1) + truth[:, None]
        found = ClassGaussians(2).fit(z, truth)
        means = np.stack([z[truth == c].mean(0) for c in (0, 1)])
        within = z - means[truth]
        covariance = within.T @ within / (n - 2)
        shrunk = (1 - found.shrinkage_) * covariance
        shrunk += found.shrinkage_ * np.trace(covariance) / f * np.eye(f)
        expected = [[(x - m) @ np.linalg.solve(shrunk, x - m) for m in means] for x in z]
        np.testing.assert_allclose(found.distances(z), expected, rtol=1e-6, atol=1e-8)


def test_features_that_do_not_vary_within_classes() -> None:
    truth = np.repeat([0, 1], 5)
    found = ClassGaussians(2).fit(np.eye(3)[truth], truth)
    assert (found.predict(np.eye(3)[truth]) == truth).all()


# --- what has no answer ----------------------------------------------------------------------


@pytest.mark.parametrize("index", [1, 2, 3], ids=NAMES[1:])
def test_a_class_without_reference_images_leaves_its_errors_undetermined(index: int) -> None:
    """Three classes, of which the last is known by name only."""
    truth = np.repeat([0, 1], 30)
    x = points(truth)
    aligned = AffineMap().fit(x, x[:, :2])
    captions = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    concepts = ConceptSpace.of(["east", "north", "west"], captions, aligned)
    rule = [
        ZeroShot(concepts), NearestHeatmap(concepts, 3), FreshHead(3), Witnesses(3),
    ][index]  # fmt: skip
    reference = Observed(x, truth, truth)
    errors = Observed(x[:1], np.array([2]), np.array([0]))
    assert rule.fit(reference).locate(errors).tolist() == [UNDETERMINED]


def test_a_class_that_is_never_answered_rightly_is_known_by_its_images() -> None:
    reference, images = world("head")  # no right answer at all
    assert reference.wrong.all()
    (found,) = localize([rules()[1]], reference, images)
    assert found.total.head_share == 1


def test_the_nearest_mean_is_the_nearest_and_made_of_right_answers() -> None:
    """Means at 1 and 3 once the wrong answer at 9 is left out; class 2 is far off."""
    z = np.array([[0.0], [2.0], [3.0], [9.0], [40.0]])
    truth, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 2])
    rule = ClassMean(AffineMap().fit(np.arange(9.0)[:, None], np.arange(9.0)[:, None]), 4)
    rule.fit(Observed(z, truth, predicted))
    np.testing.assert_allclose(rule.means[:3, 0], [1, 3, 40], atol=1e-9)
    found = rule.locate(
        Observed(np.array([[1.9], [2.1], [2.1], [30.0]]), np.array([0, 0, 1, 2]), np.full(4, 3))
    )
    assert found.tolist() == [HEAD, ENCODER, HEAD, HEAD]


def test_what_is_held_out_is_not_learned_from() -> None:
    """Classes without any difference: a head that had seen them would know some of them."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    z = rng.normal(size=(60, 100))
    assert ClassGaussians(2).fit(z, truth).accuracy_ < 0.75
    copies, labels, pictures = np.repeat(z, 5, 0), np.repeat(truth, 5), np.repeat(np.arange(60), 5)
    assert ClassGaussians(2).fit(copies, labels).accuracy_ > 0.95
    assert ClassGaussians(2).fit(copies, labels, pictures).accuracy_ < 0.75


def test_one_error_and_no_error() -> None:
    reference, images = world("head")
    for rule in rules():
        fitted = rule.fit(reference)
        assert fitted.locate(images.take(np.array([3]))).shape == (1,)
        assert fitted.locate(images.take(np.zeros(0, dtype=np.int64))).shape == (0,)


def test_bad_input_is_named() -> None:
    reference, images = world("head")
    broken = reference.features.copy()
    broken[7, 0] = np.nan
    with pytest.raises(InputError, match="row 7 of the features holds NaN"):
        Observed(broken, reference.truth, reference.predicted)
    with pytest.raises(InputError, match="60 rows of features, but 59 truth"):
        Observed(reference.features, reference.truth[:59], reference.predicted)
    with pytest.raises(InputError, match="needs the VLM's embeddings"):
        rules()[0].fit(reference).locate(replace(images, embeddings=None))
    with pytest.raises(InputError, match=r"classes must lie in 0 … 1; got 0 … 2"):
        FreshHead(2).fit(replace(reference, truth=np.repeat([0, 2], 30)))
    with pytest.raises(InputError, match="at least two classes"):
        FreshHead(2).fit(reference.take(reference.truth == 0))
    with pytest.raises(InputError, match=r"2 image\(s\)"):
        FreshHead(2).fit(replace(reference.take(np.array([0, 30])), groups=np.zeros(2, np.int64)))


# --- shares ----------------------------------------------------------------------------------


def test_shares_add_up_and_are_undefined_without_images() -> None:
    found = Shares.of(np.array([0, 0, 1, 2], dtype=np.int8))
    assert found == Shares(2, 1, 1)
    assert (found + Shares(1, 1, 0)).images == 6
    assert found.head_share == pytest.approx(2 / 3)
    interval = found.interval()
    assert interval is not None
    assert interval[0] < 2 / 3 < interval[1]
    assert found.verdict == HEAD
    assert Shares(1, 2).verdict == ENCODER
    assert Shares(2, 2).verdict == UNDETERMINED
    assert Shares(undetermined=3).head_share is None
    assert Shares().interval() is None


def test_dead_weights_within_the_encoder_tell_on_it_too() -> None:
    reference, images = world("head")
    rule = Witnesses(2, WEIGHTS, {"conv1": 0.01, "conv2": 0.3}).fit(reference)
    assert rule.dead_share_ == 0.3
    assert rule.encoder_ == "30% of the squared weights of layer 'conv2' are on constant inputs"
    assert (rule.locate(images) == ENCODER).all()
    # A twentieth is no sign: units die in training too.
    assert Witnesses(2, WEIGHTS, {"conv1": 0.05}).fit(reference).encoder_ == ""


# --- errors and reference images that show the same pictures ---------------------------------


class Memory:
    """Says head where it has seen the picture, encoder where not; knows pictures by features."""

    name = "memory"

    def fit(self, reference: Observed) -> "Memory":
        self.seen = {tuple(row) for row in reference.features.tolist()}
        return self

    def locate(self, errors: Observed) -> NDArray[np.int8]:
        known = [tuple(row) in self.seen for row in errors.features.tolist()]
        return np.where(known, HEAD, ENCODER).astype(np.int8)


def test_no_rule_has_seen_the_picture_it_judges() -> None:
    _, images = world("head")
    pictures = np.repeat(np.arange(20), 3)  # three views of each
    errors = replace(images, groups=pictures)
    rule = Memory()
    (found,) = localize_held_out([rule], errors, errors)
    assert (found.verdicts == ENCODER).all()
    assert found.total.images == 60
    # In the end it is fitted on everything.
    assert len(rule.seen) == 60


def test_where_too_few_are_left_there_is_no_verdict() -> None:
    reference, images = world("head")
    two = np.array([0, len(reference) - 1])
    few = replace(reference.take(two), groups=np.arange(2))
    errors = replace(images.take(two), groups=np.arange(2))
    (found,) = localize_held_out([FreshHead(2)], few, errors)
    assert (found.verdicts == UNDETERMINED).all()
    with pytest.raises(InputError, match="need groups: the picture"):
        localize_held_out([FreshHead(2)], reference, errors)
