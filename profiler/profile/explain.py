"""What a unit's whole range follows: a few words whose presence predicts its activation.

A *range explanation* of a unit is a sum of concepts with positive weights that predicts its pooled
activation a, as in Linear Explanations (Oikarinen & Weng, ICML 2024). A concept's presence in an
image is p_m = t_m · v, with t_m the concept's embedding and v the image's. Everything follows from
the moments of a pass (:mod:`profiler.activations.moments`): no image is seen again.

- **Words** by orthogonal matching pursuit on standardised concepts (Pati, Rezaiifar & Krishnaprasad
  1993): the word of highest positive correlation with what is left of the activation, then all
  weights anew by ridge regression, kept positive. At most :data:`MOST_WORDS`, and of them as
  few as come within :data:`GAIN` of the best cross-validated correlation.
- **r**: words and weights from all folds but one, the correlation of prediction and activation on
  the images of that one; the mean over folds. The words shown are those of all images.
- **Ceiling**: the same of a ridge regression on v itself, or of the words where they do better:
  what can be said of the unit in the VLM's space, as far as these images tell.
- **Explained** by target and decoy (Käll et al. 2008, separate searches): a decoy is a unit with
  the activations of other images, for which words are searched as well; tested on a unit's own
  words, decoys would vary too little. The cut on r of all :data:`MOST_WORDS` words is the lowest
  that so few decoys reach that their share among those that do is at most 5 %. People's ratings may
  set another, on the same r.
- **Specificity**: the share of the layer's other explanations that predict the unit worse.
- **Monosemanticity** (Pach et al. 2025): the mean cosine of pairs of images, weighted by both
  activations, in [0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from scipy.linalg import eigh

from profiler.activations.moments import FoldMoments, LayerMoments, decoys_of
from profiler.activations.top_lists import ImageSample, LayerTops
from profiler.core.arrays import BoolArray, Float64, FloatArray, IntArray, blocks
from profiler.data.concept_sets import ConceptSet

FEWEST_IMAGES = 50
"""Below which nothing is explained: a fifth of them has to show whether a word predicts."""
MOST_WORDS = 5
GAIN = 0.01
"""Of cross-validated correlation, which more words have to bring."""
FDR = 0.05
"""Share of units expected to be explained by chance, among those explained."""
EQUALS = 1.0
"""Standard errors within which a word's correlation is as good as the best one's."""
SHOWN_EQUALS = 3
"""Words listed that lead as well."""
ALIKE = 0.95
"""Cosine of the embeddings of two concepts that say the same."""
RIDGE = 1e-3
"""Of the regression on chosen concepts, in units of their variance."""
CEILING_RIDGES = (0.003, 0.01, 0.03, 0.1)
"""Tried for the ceiling, as multiples of the variance of all coordinates together."""
FEW_CONCEPTS = 2_500
"""Up to so many, all correlations of concepts are kept: 50 MB for each part of the images."""
LOOKS = ("color", "texture", "material")
"""Categories whose names are made of words that each say how something looks."""
BLOCK_NUMBERS = 1_000_000
"""Units are searched in blocks of so many correlations with concepts."""
BINS = 32
"""Parts of a unit's range in which images are counted."""
PER_QUARTER = 2
"""Images shown of each quarter of a unit's range."""
_TINY = 1e-12


@dataclass(frozen=True)
class LayerRange:
    """The range explanations of a layer's units.

    Attributes:
        layer: its name.
        concept: (K, q) indices of the words, in the order in which they were found; −1 where
            there is none.
        weight: (K, q) the activation's rise, in its standard deviations, as the concept's presence
            rises by one of its own.
        r: (K, q) cross-validated correlation with the first 1 … q words; NaN where a unit does not
            vary.
        words: (K,) how many words were taken.
        agreement: (K,) folds whose leading word is that of all images.
        ceiling: (K,) cross-validated correlation of the best linear function of the embedding.
        specificity: (K,) share of the layer's other explanations that predict the unit worse.
        monosemanticity: (K,) in [0, 1].
        decoy_r: (D, q) cross-validated correlation of decoys.
        decoy_monosemanticity: (D,).
        images: (K, G) probe images from the whole range of the unit's activation, highest first:
            the strongest, and two from each quarter of the range; −1 in place of one that lacks.
        activations: (K, G) on these images; NaN in place of one that lacks.
        fold_r: (K, F, q) the correlations on each fold, of which r is the mean; one fold, r itself,
            where a run does not hold them.
        density: (K, :data:`BINS`) how many images of a random sample lie in each of so many equal
            parts of the unit's range on all images; none where a run does not hold them.
        low: (K,) the lower end of that range; the upper one is the strongest activation.
        equals: (K, :data:`SHOWN_EQUALS`) other words that alone predict the unit as well as any,
            but for an error of estimation, the best first; −1 where there are fewer, and no column
            where a run does not hold them.
    """

    layer: str
    concept: IntArray
    weight: FloatArray
    r: FloatArray
    words: IntArray
    agreement: IntArray
    ceiling: FloatArray
    specificity: FloatArray
    monosemanticity: FloatArray
    decoy_r: FloatArray
    decoy_monosemanticity: FloatArray
    fold_r: FloatArray
    images: IntArray
    activations: FloatArray
    density: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    low: FloatArray = field(default_factory=lambda: np.zeros(0))
    equals: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @property
    def shown_r(self) -> Float64:
        """(K,) r with the words that were taken; NaN where a unit does not vary."""
        place = np.maximum(self.words - 1, 0)[:, None]
        return np.take_along_axis(np.asarray(self.r, np.float64), place, axis=1)[:, 0]

    @property
    def shown_fold_r(self) -> Float64:
        """(K, F) the same on each fold."""
        place = np.maximum(self.words - 1, 0)[:, None, None]
        return np.take_along_axis(np.asarray(self.fold_r, np.float64), place, axis=2)[:, :, 0]

    @property
    def whole_r(self) -> Float64:
        """(K,) r with all words, which every cut is about: decoys have no fewer to choose from."""
        return np.asarray(self.r[:, -1], np.float64)

    def explained(self, cut: float) -> BoolArray:
        """(K,) whether r of all words reaches the cut; a unit that does not vary never does."""
        found: BoolArray = self.whole_r >= cut
        return found

    def leading(self, cut: float) -> IntArray:
        """(K,) index of the leading word of each explained unit; −1 for the others."""
        return np.where(self.explained(cut), self.concept[:, 0], -1)

    def leading_words(self, cut: float, concepts: Sequence[str]) -> list[str | None]:
        """The leading word of each explained unit; None for the others."""
        return [concepts[i] if i >= 0 else None for i in self.leading(cut).tolist()]

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays, to be stored."""
        return {each.name: getattr(self, each.name) for each in fields(self)[1:]}

    @classmethod
    def from_arrays(cls, layer: str, arrays: Mapping[str, Any], prefix: str = "") -> "LayerRange":
        """What :meth:`to_arrays` gave, its names behind a prefix."""
        found = {
            each.name: arrays[prefix + each.name]
            for each in fields(cls)[1:]
            if prefix + each.name in arrays or each.name not in _LATER
        }
        if "fold_r" not in found:
            nothing = np.zeros((len(found["r"]), 0))
            found |= {"fold_r": found["r"][:, None], "images": nothing.astype(np.int64)}
            found["activations"] = nothing
        return cls(layer, **found)


_LATER = ("fold_r", "images", "activations", "density", "low", "equals")
"""What older runs do not hold: those of format 3 none of it."""


@dataclass(frozen=True)
class Candidates:
    """The concepts that may explain units.

    Attributes:
        rows: (M, e) their embeddings.
        allowed: (M,) those that may be chosen; None: all.
        rank: (M,) how familiar each is, the lowest number being the most familiar: of words whose
            correlations are equal but for an error of estimation, the most familiar is taken. None:
            the word of highest correlation.
    """

    rows: FloatArray
    allowed: BoolArray | None = None
    rank: IntArray | None = None


def visual_words(words: Sequence[str], visual: ConceptSet) -> BoolArray:
    """(M,) which words are for what one can see: named in ``visual``, or part of a look's name.

    Any direction of an embedding lies near some word, so among many words the best predictors are
    often words for nothing one can see: "fifty", "been". Nearness to a visual word does not tell
    them apart either. The name of a colour, a texture or a material counts word by word.

    Args:
        words: M of all kinds.
        visual: words for what one can see, with their categories.

    >>> seen = ConceptSet("", ("bluish gray", "dog", "toy shop"), ("color", "object", "scene"))
    >>> visual_words(["been", "gray", "dogs", "toy"], seen).tolist()
    [False, True, True, False]
    """
    seen = set(visual.words)
    for word, category in zip(visual.words, visual.categories, strict=True):
        if category in LOOKS:
            seen.update(part for part in word.split() if part != "and")
    return np.array([word in seen or word.removesuffix("s") in seen for word in words])


def explain_layers(
    layers: Sequence[LayerMoments],
    tops: Sequence[LayerTops],
    candidates: Candidates,
    sample: ImageSample,
) -> Iterator[LayerRange]:
    """Explain the units of every layer, one layer after the other.

    Args:
        layers: the moments of each; their embeddings' parts are one and the same.
        tops: their lowest and highest activations.
        candidates: the concepts.
        sample: activations on some images, numbered as in the top lists.
    """
    number = np.arange(len(candidates.rows))
    if candidates.allowed is not None:
        number = np.flatnonzero(candidates.allowed)
        rank = None if candidates.rank is None else candidates.rank[number]
        candidates = Candidates(candidates.rows[number], rank=rank)
    space = _Space(layers[0].units, candidates)
    for layer, own, values in zip(layers, tops, sample.activations, strict=True):
        yield _explain(layer, own, space, number, sample.images, values)


class _Fit:
    """Concepts as the images outside one fold (or all images) have them.

    Args:
        vv: (e, e) centred sums of products of the images' embeddings.
        count: of the images.
        candidates: the concepts.
    """

    def __init__(self, vv: Float64, count: float, candidates: Candidates) -> None:
        self.count = count
        self.rows = np.asarray(candidates.rows, np.float64)
        self.spread = self.rows @ vv  # (M, e)
        variance = np.einsum("me,me->m", self.spread, self.rows)
        floor = _TINY * max(float(variance.max(initial=0.0)), _TINY)
        self.usable = variance > floor
        self.scale = np.where(self.usable, 1 / np.sqrt(np.maximum(variance, floor)), 0.0)
        few = len(self.rows) <= FEW_CONCEPTS
        self._whole = self._gram(np.arange(len(self.rows))) if few else None

    def as_good_as(self, best: Float64) -> Float64:
        """The correlations :data:`EQUALS` standard errors, (1 − r²) / √n, below some."""
        error = EQUALS / np.sqrt(max(self.count, 1.0))
        return np.asarray(best - error * np.maximum(1 - best**2, 0), np.float64)

    def gram(self, words: IntArray) -> Float64:
        """(n, M) correlations of some concepts with all."""
        if self._whole is not None:
            return self._whole[words]
        some, place = np.unique(words, return_inverse=True)
        return self._gram(some)[place]

    def _gram(self, words: IntArray) -> Float64:
        found = (self.spread[words] * self.scale[words, None]) @ self.rows.T
        found *= self.scale
        return np.asarray(found, np.float64)


class _Space:
    """What the fits of all layers share."""

    def __init__(self, moments: FoldMoments, candidates: Candidates) -> None:
        self.candidates = candidates
        self.folds = [f for f in range(len(moments.count)) if moments.count[f] > 1]
        parts: list[int | None] = [*self.folds, None]
        self.parts = parts
        bare = moments.columns(slice(0, 0))
        self.fits: dict[int | None, _Fit] = {}
        self.eigen: dict[int, tuple[Float64, Float64]] = {}
        for part in parts:
            some = bare.without(part)
            self.fits[part] = _Fit(some.vv[0], float(some.count[0]), candidates)
            if part is not None:
                values, vectors = eigh(some.vv[0])
                self.eigen[part] = (np.maximum(values, 0), vectors)
        norms = np.linalg.norm(candidates.rows, axis=1)
        self._unit = (candidates.rows / np.maximum(norms, _TINY)[:, None]).astype(np.float32)
        few = len(self._unit) <= FEW_CONCEPTS
        self._alike = self._unit @ self._unit.T > ALIKE if few else None

    def alike(self, words: IntArray) -> BoolArray:
        """(n, M) which concepts say nearly the same as each of some."""
        some, place = np.unique(words, return_inverse=True)
        found: BoolArray = (
            self._unit[some] @ self._unit.T > ALIKE if self._alike is None else self._alike[some]
        )
        return found[place]


def _explain(
    layer: LayerMoments,
    tops: LayerTops,
    space: _Space,
    number: IntArray,
    sample: IntArray,
    values: FloatArray,
) -> LayerRange:
    """One layer, given the numbers of the candidates and the activations on some images."""
    low, high = tops.low, tops.activations[:, 0]
    some = decoys_of(tops.units)
    own = _Search(layer.units, space)
    chance = _Search(layer.decoys, space)
    q = own.words
    weights = np.where(np.arange(MOST_WORDS) < q[:, None], own.weights_with(q), 0.0)
    return LayerRange(
        layer.layer,
        np.where(weights > 0, number[own.concept], -1),
        weights,
        own.r,
        q,
        own.agreement(),
        own.ceiling(),
        own.specificity(),
        monosemanticity(layer.units, low, high),
        chance.r,
        monosemanticity(layer.decoys, low[some], high[some]),
        own.fold_r.astype(np.float32),
        *range_images(tops, sample, values),
        densities(tops, values),
        low,
        np.where(own.equals >= 0, number[own.equals], -1),
    )


class _Search:
    """The words of a layer's units, on all images and outside each fold."""

    def __init__(self, moments: FoldMoments, space: _Space) -> None:
        self.moments, self.space = moments, space
        units = moments.a.shape[1]
        self._rest = {part: moments.without(part) for part in space.parts}
        total = self._rest[None]
        self.varies = total.aa[0] > _TINY * np.maximum(
            total.aa[0] + total.count[0] * total.a[0] ** 2, _TINY
        )
        self.equals = np.full((units, SHOWN_EQUALS), -1)
        found = {part: self._fit(part) for part in space.parts}
        self.concept, self._weights = found[None]
        self._leading = {part: concept[:, 0] for part, (concept, _) in found.items()}
        self._directions = {
            part: self._rows(part, *found[part]) for part in space.folds
        }  # (q, e, K)
        self.fold_r = np.full((units, max(len(space.folds), 1), MOST_WORDS), np.nan)
        for place, part in enumerate(space.folds):
            fold = moments.fold(part)
            for q in range(MOST_WORDS):
                self.fold_r[:, place, q] = _correlations(fold, self._directions[part][q])
        self.fold_r[~self.varies] = np.nan
        self.r = self.fold_r.mean(axis=1)
        self.words = _how_many(self.r)

    def _fit(self, part: int | None) -> tuple[IntArray, Float64]:
        """(K, q) concepts, and (q, K, q) the weights with the first 1 … q of them."""
        some = self._rest[part]
        units = some.a.shape[1]
        concept = np.zeros((units, MOST_WORDS), dtype=np.int64)
        weights = np.zeros((MOST_WORDS, units, MOST_WORDS))
        deviation = np.sqrt(np.maximum(some.aa[0], _TINY))
        size = max(BLOCK_NUMBERS // len(self.space.candidates.rows), 16)
        for block in blocks(units, size):
            fit = self.space.fits[part]
            covariance = fit.rows @ some.va[0][:, block]
            correlation = (covariance * fit.scale[:, None] / deviation[block]).T
            concept[block], weights[:, block] = self._pursue(fit, correlation)
            if part is None:
                self.equals[block] = self._equals(fit, correlation, concept[block, 0])
        self.equals[~self.varies] = -1
        return concept, weights

    @staticmethod
    def _equals(fit: _Fit, correlation: Float64, leading: IntArray) -> IntArray:
        """See :class:`LayerRange`; correlation (K, M), leading (K,)."""
        left = np.where(fit.usable, correlation, -np.inf)
        least = fit.as_good_as(left.max(axis=1, keepdims=True))
        np.put_along_axis(left, leading[:, None], -np.inf, axis=1)
        few = min(SHOWN_EQUALS, left.shape[1])
        order = np.argpartition(-left, few - 1, axis=1)[:, :few]
        own = np.take_along_axis(left, order, axis=1)
        order = np.take_along_axis(order, np.argsort(-own, axis=1, kind="stable"), axis=1)
        near = np.take_along_axis(left, order, axis=1) >= least
        found = np.full((len(left), SHOWN_EQUALS), -1)
        found[:, : order.shape[1]] = np.where(near, order, -1)
        return found

    def _pursue(self, fit: _Fit, correlation: Float64) -> tuple[IntArray, Float64]:
        """Matching pursuit for a block of units: correlation (K, M) with every concept."""
        units, rank = len(correlation), self.space.candidates.rank
        chosen = np.zeros((units, MOST_WORDS), dtype=np.int64)
        weights = np.zeros((MOST_WORDS, units, MOST_WORDS))
        barred = np.repeat(~fit.usable[None], units, axis=0)
        left = correlation.copy()
        grams = np.zeros((units, MOST_WORDS, correlation.shape[1]))
        for q in range(MOST_WORDS):
            left[barred] = -np.inf
            if rank is None:
                pick = left.argmax(axis=1)
            else:
                equal = left >= fit.as_good_as(left.max(axis=1, keepdims=True))
                pick = np.where(equal, rank, np.iinfo(np.int64).max).argmin(axis=1)
            chosen[:, q] = pick
            barred |= self.space.alike(pick)
            grams[:, q] = fit.gram(pick)
            some = np.take_along_axis(
                grams[:, : q + 1], np.repeat(chosen[:, None, : q + 1], q + 1, axis=1), axis=2
            )
            wanted = np.take_along_axis(correlation, chosen[:, : q + 1], axis=1)
            weights[q, :, : q + 1] = _positive_ridge(some, wanted)
            left = correlation - np.einsum("kq,kqm->km", weights[q, :, : q + 1], grams[:, : q + 1])
        return chosen, weights

    def _rows(self, part: int | None, concept: IntArray, weights: Float64) -> Float64:
        """(q, e, K): the direction in the embedding that predicts with the first q words."""
        fit = self.space.fits[part]
        scaled = fit.rows * fit.scale[:, None]
        return np.stack(
            [np.einsum("kq,kqe->ek", weights[q], scaled[concept]) for q in range(MOST_WORDS)]
        )

    def weights_with(self, words: IntArray) -> Float64:
        """(K, q) weights on all images with so many words."""
        place = np.maximum(words - 1, 0)
        found: Float64 = self._weights[place, np.arange(len(words))]
        return found

    def agreement(self) -> IntArray:
        """(K,) folds whose leading word is that of all images."""
        leading = [self._leading[part] == self._leading[None] for part in self.space.folds]
        found: IntArray = np.sum(leading, axis=0)
        return np.where(self.varies, found, 0)

    def specificity(self) -> Float64:
        """(K,) share of the layer's other explanations that predict a unit worse than its own."""
        units = len(self.words)
        if units < 2:
            return np.full(units, np.nan)
        place = np.maximum(self.words - 1, 0)
        r = np.zeros((units, units))
        for part in self.space.folds:
            directions = self._directions[part][place, :, np.arange(units)].T
            r += _cross_correlations(self.moments.fold(part), directions)
        own = np.diagonal(r)
        others = self.varies[:, None] & ~np.eye(units, dtype=bool)
        worse = ((r < own) & others).sum(axis=0)
        share = worse / np.maximum(others.sum(axis=0), 1)
        return np.where(self.varies, share, np.nan)

    def ceiling(self) -> Float64:
        """(K,) the best cross-validated correlation of a linear function of the embedding."""
        units = len(self.words)
        r = np.zeros((len(CEILING_RIDGES), units))
        for part in self.space.folds:
            values, vectors = self.space.eigen[part]
            turned = vectors.T @ self._rest[part].va[0]
            fold = self.moments.fold(part)
            for place, ridge in enumerate(CEILING_RIDGES):
                damped = turned / (values + ridge * max(values.sum(), _TINY))[:, None]
                r[place] += _correlations(fold, vectors @ damped)
        r /= max(len(self.space.folds), 1)
        best = int(r[:, self.varies].sum(axis=1).argmax())
        return np.where(self.varies, np.fmax(r[best], self.r.max(axis=1)), np.nan)


def range_images(
    tops: LayerTops, sample: IntArray, values: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Images from the whole range of each unit: the strongest, and two from each quarter.

    Drawn at random for each unit from the sample; a quarter that holds fewer is filled up from the
    top list.

    Args:
        tops: of K units.
        sample: (S,) images.
        values: (S, K) activations on them.

    Returns:
        (K, 9) images, highest activation first, −1 where one lacks; (K, 9) activations, NaN there.
    """
    others = ~np.isin(tops.images, sample)
    images = np.concatenate([np.broadcast_to(sample, values.T.shape), tops.images], axis=1)
    activations = np.concatenate([values.T, tops.activations], axis=1).astype(np.float32)
    open_to = np.concatenate([np.ones(values.T.shape, dtype=bool), others], axis=1)
    open_to &= images != tops.images[:, :1]
    low, high = tops.low[:, None], tops.activations[:, :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (activations - low) / (high - low)
    quarter = np.minimum(4 * np.nan_to_num(share), 3.999).astype(np.int64)
    draw = np.random.default_rng(images.shape).random(images.shape)
    draw[:, len(sample) :] += 1
    chosen, found = [tops.images[:, :1]], [tops.activations[:, :1].astype(np.float32)]
    for each in range(3, -1, -1):
        inside = open_to & (quarter == each)
        place = np.argsort(np.where(inside, draw, 2.0), axis=1, kind="stable")[:, :PER_QUARTER]
        there = np.take_along_axis(inside, place, axis=1)
        value = np.where(there, np.take_along_axis(activations, place, axis=1), np.nan)
        image = np.where(there, np.take_along_axis(images, place, axis=1), -1)
        order = np.argsort(-value, axis=1, kind="stable")  # NaN comes last
        chosen.append(np.take_along_axis(image, order, axis=1))
        found.append(np.take_along_axis(value, order, axis=1))
    return np.concatenate(chosen, axis=1), np.concatenate(found, axis=1)


def densities(tops: LayerTops, values: FloatArray) -> IntArray:
    """(K, :data:`BINS`) images in each part of the range of K units, of S with values (S, K)."""
    low, high = tops.low, tops.activations[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num((values - low) / (high - low))
    place = np.clip((BINS * share).astype(np.int64), 0, BINS - 1)
    cells = place + BINS * np.arange(len(low))
    counts = np.bincount(cells.ravel(), minlength=BINS * len(low))
    return counts.reshape(len(low), BINS).astype(np.int32)


def _how_many(r: FloatArray) -> IntArray:
    """(K,) how many words to take: as few as come within :data:`GAIN` of the best correlation."""
    enough = r >= r.max(axis=1, keepdims=True) - GAIN
    return np.where(np.isfinite(r[:, 0]), enough.argmax(axis=1) + 1, 0)


def _positive_ridge(gram: Float64, wanted: Float64) -> Float64:
    """(K, q) positive weights of standardised concepts, by ridge regression.

    Args:
        gram: (K, q, q) correlations of the concepts.
        wanted: (K, q) correlations of the concepts with the unit.
    """
    q = gram.shape[1]
    on = np.ones(wanted.shape, dtype=bool)
    weights: Float64 = np.zeros(wanted.shape)
    # Dropping what is negative ends after q rounds: there is nothing more to drop.
    for _ in range(q):
        both = on[:, :, None] & on[:, None, :]
        system = np.where(both, gram, 0.0) + np.eye(q) * np.where(on, RIDGE, 1.0)[:, :, None]
        solved = np.linalg.solve(system, np.where(on, wanted, 0.0)[:, :, None])
        weights = np.asarray(solved[:, :, 0], np.float64)
        negative = on & (weights < 0)
        if not negative.any():
            break
        on &= ~negative
    return np.maximum(weights, 0.0)


def _correlations(fold: FoldMoments, directions: Float64) -> Float64:
    """(K,) correlation of each unit with its own prediction d·v, directions (e, K); 0 if none."""
    covariance = np.einsum("ek,ek->k", directions, fold.va[0])
    return _ratio(covariance, _variance(fold, directions) * fold.aa[0])


def _cross_correlations(fold: FoldMoments, directions: Float64) -> Float64:
    """(K, K): of prediction j (rows) with unit k (columns)."""
    covariance = directions.T @ fold.va[0]
    return _ratio(covariance, _variance(fold, directions)[:, None] * fold.aa[0])


def _variance(fold: FoldMoments, directions: Float64) -> Float64:
    return np.asarray(np.einsum("ek,ek->k", directions, fold.vv[0] @ directions), np.float64)


def _ratio(covariance: Float64, variances: Float64) -> Float64:
    known = variances > _TINY**2
    return np.where(known, covariance / np.sqrt(np.where(known, variances, 1.0)), 0.0)


def monosemanticity(moments: FoldMoments, low: FloatArray, high: FloatArray) -> Float64:
    """(K,) (‖Σ v a‖² − Σ a²) / ((Σ a)² − Σ a²), activations scaled to [0, 1] (Pach et al. 2025).

    NaN where a unit does not vary.

    Args:
        moments: of unit embeddings v and activations a.
        low: (K,) lowest activation.
        high: (K,) highest activation.
    """
    total = moments.without()
    n = total.count[0]
    scale = np.asarray(high, np.float64) - low
    scale = np.where(scale > 0, scale, np.nan)
    mean = (total.a[0] - low) / scale
    va = total.va[0] / scale + np.outer(n * total.v[0], mean)
    square = total.aa[0] / scale**2 + n * mean**2
    found: Float64 = (np.square(va).sum(axis=0) - square) / ((n * mean) ** 2 - square)
    return found


def known_mean(values: FloatArray) -> float:
    """The mean over units that vary; NaN where none does."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def explained_cut(
    layers: Sequence[LayerRange], *, words: int = MOST_WORDS, fdr: float = FDR
) -> float:
    """τ_r: the lowest r so high that decoys are at most ``fdr`` of what reaches it.

    Decoys stand for all units of their layer, of which some may have none. Infinite where no cut
    meets the rate.

    Args:
        layers: the units and decoys of the whole run.
        words: of the explanations that r is of.
        fdr: false-discovery rate.
    """
    own = np.concatenate([layer.r[:, words - 1] for layer in layers])
    decoys = np.concatenate([layer.decoy_r[:, words - 1] for layer in layers])
    stand_for = np.concatenate(
        [np.full(len(layer.decoy_r), len(layer.r) / len(layer.decoy_r)) for layer in layers]
    )
    known = np.isfinite(decoys)
    own, decoys, stand_for = np.sort(own[np.isfinite(own)]), decoys[known], stand_for[known]
    order = np.argsort(decoys)
    decoys, stand_for = decoys[order], stand_for[order]
    behind = np.concatenate([np.cumsum(stand_for[::-1])[::-1], [0.0]])
    reach = len(own) - np.searchsorted(own, own, side="left")
    by_chance = behind[np.searchsorted(decoys, own, side="left")]
    meets = np.flatnonzero(by_chance <= fdr * reach)
    return float(own[meets[0]]) if len(meets) else float("inf")
