"""Rules for continuous integration: a comparison that breaks one is a regression.

::

    rule   = metric [ "[" layer "]" ] relation number [ "%" ]
    metric = "js" | "kept" | "correlation" | "cka" | "changed" | "r" | "explained" | CATEGORY
           | "interpretable" | "uninterpretable" | "dead" | [ "driver_" ] FACTOR
    relation = "<" | ">"

``js``: Jensen–Shannon divergence in bits. ``kept``: share of the matched units trusted in both runs
that keep their label. ``correlation``: mean correlation of matched units. ``cka``: of a layer with
its namesake. ``changed``: number of significant share differences beyond the noise. ``r``: change
of the mean correlation of range explanations; ``explained``: of the share explained. A factor of
the experiment: change of the share of the variance that it causes; ``driver_color``, where a
category has the same name. Everything else: difference of a share, after − before. A rule without
a layer is broken where any layer breaks it, or, for a share, all layers together (``[all]``).
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from profiler.compare.result import INTERPRETABLE, Comparison, LayerComparison, PairComparison
from profiler.data.synthetic.design import FACTORS
from profiler.errors import UnknownNameError, UsageError

ALL = "all"
"""All layers together."""

_METRICS = ("js", "kept", "correlation", "cka", "changed", "r", "explained")
_SHARES = (INTERPRETABLE, "uninterpretable", "dead")
DRIVER = "driver_"
"""Before the name of a factor, as in ``descriptions.csv``."""
_RULE = re.compile(
    r"\s*(?P<metric>[^<>\[\]]+?)\s*(?:\[\s*(?P<layer>[^\]]+?)\s*\])?\s*(?P<relation>[<>])\s*"
    r"(?P<number>[-+−]?\d*\.?\d+)\s*(?P<percent>%)?\s*"
)


@dataclass(frozen=True)
class FailRule:
    """One condition that must not hold."""

    text: str
    """As given."""
    metric: str
    layer: str | None
    relation: Literal["<", ">"]
    bound: float
    """A share, not a percentage."""

    def holds(self, value: float) -> bool:
        """Whether a value is on the forbidden side; NaN is on neither."""
        return value < self.bound if self.relation == "<" else value > self.bound


@dataclass(frozen=True)
class RuleVerdict:
    """What became of a rule."""

    rule: FailRule
    outcome: Literal["kept", "broken", "undecided"]
    """``undecided``: what it speaks of could not be measured."""
    reason: str


def parse_rule(text: str, categories: Sequence[str]) -> FailRule:
    """Read one rule; raises :class:`UsageError` with what would be right.

    >>> rule = parse_rule("interpretable<-5%", ["color"])
    >>> rule.metric, rule.relation, rule.bound
    ('interpretable', '<', -0.05)
    """
    found = _RULE.fullmatch(text)
    if not found:
        raise UsageError(
            f"--fail-on {text!r} is no condition; write METRIC>NUMBER or METRIC[LAYER]<NUMBER, for "
            "example 'js>0.1' or 'interpretable<-5%'"
        )
    metric = found["metric"]
    known = (*_METRICS, *_SHARES, *categories)
    if metric not in known:
        metric = _driver(metric, known)
    number = float(found["number"].replace("−", "-"))
    bound = number / 100 if found["percent"] else number
    relation: Literal["<", ">"] = "<" if found["relation"] == "<" else ">"
    return FailRule(text.strip(), metric, found["layer"], relation, bound)


def _driver(metric: str, known: Sequence[str]) -> str:
    """The metric of a factor, by whatever of its names."""
    for factor in FACTORS:
        name = DRIVER + factor.replace(" ", "_")
        if metric in (factor, name, name.removeprefix(DRIVER)):
            return name
    raise UnknownNameError("metric of --fail-on", metric, (*known, *FACTORS))


def check_rules(comparison: Comparison, rules: Sequence[FailRule]) -> list[RuleVerdict]:
    """Hold a comparison against rules; a rule that names a layer no pair has is an error."""
    return [_check(comparison, rule) for rule in rules]


def _check(comparison: Comparison, rule: FailRule) -> RuleVerdict:
    values = [
        (f"{where} from {names[0]!r} to {names[1]!r}", value)
        for pair in comparison.pairs
        for names in [(comparison.runs[pair.before].name, comparison.runs[pair.after].name)]
        for where, value in _values(comparison, pair, rule)
    ]
    if rule.layer is not None and not values:
        layers = [layer.layer for pair in comparison.pairs for layer in pair.layers]
        whole = () if rule.metric.startswith(DRIVER) else (ALL,)
        raise UnknownNameError(f"layer of --fail-on {rule.text!r}", rule.layer, (*whole, *layers))
    known = [(where, value) for where, value in values if not math.isnan(value)]
    broken = [(where, value) for where, value in known if rule.holds(value)]
    if broken:
        worst = (min if rule.relation == "<" else max)(broken, key=lambda pair: pair[1])
        more = f", and in {len(broken) - 1} more" if len(broken) > 1 else ""
        reason = f"{rule.metric} is {_number(rule, worst[1])} in {worst[0]}{more}"
        return RuleVerdict(rule, "broken", reason)
    if not known:
        return RuleVerdict(rule, "undecided", f"{rule.metric} could not be measured in any layer")
    return RuleVerdict(rule, "kept", f"{len(known)} values, none {rule.relation} {rule.bound:g}")


def _values(
    comparison: Comparison, pair: PairComparison, rule: FailRule
) -> Iterator[tuple[str, float]]:
    for layer in pair.layers:
        if rule.layer in (None, layer.layer):
            yield layer.layer, _of_layer(comparison, pair, layer, rule.metric)
    if (
        rule.layer in (None, ALL)
        and rule.metric not in _METRICS
        and not rule.metric.startswith(DRIVER)
    ):
        before, after = (
            _whole_share(comparison, run, rule.metric) for run in (pair.before, pair.after)
        )
        yield "all layers", after - before


def _of_layer(
    comparison: Comparison, pair: PairComparison, layer: LayerComparison, metric: str
) -> float:
    if metric == "js":
        return layer.divergence
    if metric == "kept":
        return layer.kept_share
    if metric == "correlation":
        return layer.matching.mean if layer.matching else math.nan
    if metric == "changed":
        return float(len(layer.changed))
    if metric.startswith(DRIVER):
        moved = next((each for each in pair.drivers if each.layer == layer.layer), None)
        factors = {} if moved is None else moved.change
        names = {DRIVER + name.replace(" ", "_"): each.value for name, each in factors.items()}
        return names.get(metric, math.nan)
    if metric in ("r", "explained"):
        change = next((each for each in pair.ranges if each.layer == layer.layer), None)
        if change is None:
            return math.nan
        return change.r.value if metric == "r" else change.explained.value
    if metric == "cka":
        if pair.cka is None:
            return math.nan
        places = [
            [each.name for each in comparison.runs[run].layers].index(layer.layer)
            for run in (pair.before, pair.after)
        ]
        return float(pair.cka[places[0], places[1]])
    return next(share.difference for share in layer.shares if share.category == metric)


def _whole_share(comparison: Comparison, run: int, category: str) -> float:
    total = comparison.runs[run].profile.total
    if category == INTERPRETABLE:
        return total.interpretable_share
    if category in ("uninterpretable", "dead"):
        return float(getattr(total, category)) / total.units if total.units else 0.0
    return total.share(category)


def _number(rule: FailRule, value: float) -> str:
    if rule.metric in ("js", "correlation", "cka", "r"):
        return f"{value:.3f}"
    if rule.metric == "changed":
        return f"{value:.0f}"
    sign = "" if rule.metric == "kept" else "+"
    return f"{100 * value:{sign}.1f} %"
