"""Which module, or modules, a network's output comes from: found by comparing values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from profiler.models.subject.hooks import InputOutput, Passed
from profiler.models.subject.pooling import is_norm


@dataclass(frozen=True)
class Head:
    """The modules whose outputs, added up and divided, are what a network gives.

    Attributes:
        names: of the modules; most networks have one.
        divisor: their number, where the network averages them; else 1.
        ranked: whether the output is ordered as theirs is. If not, nothing but the number of
            outputs speaks for them.
    """

    names: tuple[str, ...]
    divisor: int = 1
    ranked: bool = True

    @property
    def text(self) -> str:
        """In words.

        >>> Head(("fc",)).text, Head(("a", "b")).text, Head(("a", "b"), 2).text
        ('fc', 'a + b', '(a + b) / 2')
        """
        added = " + ".join(self.names)
        return added if self.divisor == 1 else f"({added}) / {self.divisor}"

    @classmethod
    def of(cls, text: str) -> "Head":
        """What :attr:`text` says.

        >>> Head.of("(a + b) / 2") == Head(("a", "b"), 2), Head.of("fc").names
        (True, ('fc',))
        """
        averaged = re.fullmatch(r"\((.*)\) */ *(\d+)", text)
        added, divisor = averaged.groups() if averaged else (text, "1")
        names = tuple(name.strip() for name in added.split("+"))
        return cls(names, max(1, int(divisor)))


def find_head(model: nn.Module, passed: Passed) -> Head | None:
    """The innermost modules with weights that give the network's output; None if none does.

    Tried in turn: one module gives it; it is the sum or the mean of what several give; the last
    of those with as many outputs orders them alike; the last of them, whatever follows.
    """
    modules = dict(model.named_modules())
    rows = {
        name: trial.row
        for name, trial in sorted(passed.trials.items(), key=lambda item: item[1].last)
        if trial.row is not None and name and _has_weights(modules[name])
    }
    for output in passed.rows:
        fitting = {name: row for name, row in rows.items() if row.made.shape == output.shape}
        given = [name for name, row in fitting.items() if _equal(row.made, output)]
        if given:
            return Head((_innermost(given)[-1],))
        if several := _several(fitting, output):
            return several
    for output in passed.rows:
        fitting = {name: row for name, row in rows.items() if row.made.shape == output.shape}
        if fitting:
            last = _innermost(fitting)[-1]
            alike = not output.is_meta and same_order(fitting[last].made, output)
            return Head((last,), ranked=alike)
    return None


def same_order(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the larger of two numbers is so in both, but for ties that rounding makes."""
    order = one.argsort(dim=1)
    steps = other.gather(1, order).float().diff(dim=1)
    return bool((steps >= -1e-6 * other.float().abs().amax()).all())


def _has_weights(module: nn.Module) -> bool:
    return not is_norm(module) and next(module.parameters(), None) is not None


def _several(rows: Mapping[str, InputOutput], output: torch.Tensor) -> Head | None:
    """The heads of which the output is the sum or the mean."""
    if output.is_meta:
        return None
    chains: list[list[str]] = []
    for name in _innermost(rows):
        around = [n for n in rows if name.startswith(f"{n}.")]
        chains.append([name, *(n for n in around if _equal(rows[n].made, rows[name].made))])
    sizes = {2, len(chains)} if len(chains) > 2 else {len(chains)}
    for size in sorted(sizes - {0, 1}, reverse=True):
        for chosen in combinations(chains, size):
            total = sum(rows[chain[0]].made.double() for chain in chosen)
            for divisor in (size, 1):
                if _close(torch.as_tensor(total) / divisor, output):
                    return Head(_reading_alike(chosen, rows), divisor)
    return None


def _reading_alike(
    chains: Sequence[Sequence[str]], rows: Mapping[str, InputOutput]
) -> tuple[str, ...]:
    """Of modules around one another, those of the several heads that read the same features.

    Such as a normalisation and a linear layer, once for each head; else the innermost.
    """
    inner = tuple(chain[0] for chain in chains)
    outer = tuple(max(chain, key=lambda name: -name.count(".")) for chain in chains)
    return next((each for each in (inner, outer) if _read_alike(each, rows)), inner)


def _read_alike(names: Iterable[str], rows: Mapping[str, InputOutput]) -> bool:
    read = [rows[name].read for name in names]
    first = read[0]
    return first is not None and all(r is not None and _equal(r, first) for r in read)


def _innermost(names: Iterable[str]) -> list[str]:
    """Those around none of the others, in the order given."""
    known = list(names)
    return [n for n in known if not any(other.startswith(f"{n}.") for other in known)]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return one is other
    return one.shape == other.shape and torch.allclose(one, other, 0, 0, equal_nan=True)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal but for rounding in the precision of ``other``."""
    scale = float(other.double().abs().amax())
    step = torch.finfo(other.dtype).eps
    return bool(torch.allclose(one, other.double(), rtol=0, atol=32 * step * scale))
