"""Proofs that can be kept, sent and checked again without a solver.

A certificate holds the spec as text, the region, the planes that the refutations name, and their
weights. The reader derives from the text in which ways the spec can fail, so a certificate cannot
leave one out, and checks each refutation in rational arithmetic.

What it cannot know is whether the planes are those of the network that it names: its fingerprints
say which network, images and VLM they were taken from.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.core.arrays import FloatArray
from profiler.errors import InputError, Undecided
from profiler.spec.language.parser import parse_formula
from profiler.spec.language.tree import Formula
from profiler.spec.verify.interpretation import Interpretation, Linear
from profiler.spec.verify.normal import Above, Annotated, Way, ways_to_fail
from profiler.spec.verify.refutation import Refutation, refutes
from profiler.spec.verify.regions import Ball, Box, Hull, Region

FORMAT = "profiler-certificates-1"


@dataclass(frozen=True, eq=False)
class Certificate:
    """One proof.

    Attributes:
        spec: its name.
        on: what the region is, for people.
        formula: without quantifiers.
        interpretation: the planes.
        region: where it holds.
        refutations: one for each way in which the formula can fail.
    """

    spec: str
    on: str
    formula: Formula
    interpretation: Interpretation
    region: Region
    refutations: tuple[Refutation, ...]

    def complaint(self) -> str:
        """What is wrong with it; empty if it proves its spec."""
        try:
            ways = ways_to_fail(self.formula, self.interpretation.classes.names)
        except Undecided as error:
            return str(error)
        known = {each.way: each for each in self.refutations}
        for way in ways:
            if way not in known:
                return f"a way to fail is not refuted: {way}"
            try:
                if not refutes(known[way], self.interpretation, self.region):
                    return f"a refutation does not hold: {way}"
            except (KeyError, ValueError, OverflowError) as error:
                return f"a refutation cannot be checked: {error}"
        return ""


def to_json(certificates: Sequence[Certificate], context: Mapping[str, Any]) -> dict[str, Any]:
    """Certificates over one interpretation, as JSON.

    Planes that no refutation names are left out, but for the names of the classes.

    Args:
        certificates: at least one; all over the same interpretation.
        context: fingerprints and the like, for people.
    """
    interpretation = certificates[0].interpretation
    used: dict[str, set[str]] = {"class": set(), "concept": set()}
    for certificate in certificates:
        if certificate.interpretation is not interpretation:
            raise ValueError("certificates over different planes")
        for found in certificate.refutations:
            for row in found.rows:
                used[row.of] |= {row.high, row.low}
    regions: list[Region] = []
    for certificate in certificates:
        if not any(certificate.region is each for each in regions):
            regions.append(certificate.region)
    return {
        "format": FORMAT,
        "context": dict(context),
        "features": interpretation.features,
        "class_names": list(interpretation.classes.names),
        "concept_names": list(interpretation.concepts.names),
        "classes": _planes(interpretation.classes, used["class"]),
        "concepts": _planes(interpretation.concepts, used["concept"]),
        "regions": [_region_json(each) for each in regions],
        "proofs": [
            {
                "spec": each.spec,
                "on": each.on,
                "formula": str(each.formula),
                "region": next(i for i, region in enumerate(regions) if region is each.region),
                "refutations": [_refutation_json(found) for found in each.refutations],
            }
            for each in certificates
        ],
    }


def from_json(content: Any) -> list[Certificate]:
    """What :func:`to_json` wrote; raises :class:`InputError` for anything else."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"this is not a file of certificates (format {FORMAT})")
    try:
        width = int(content["features"])
        interpretation = Interpretation(
            _linear(content["class_names"], content["classes"], width),
            _linear(content["concept_names"], content["concepts"], width),
        )
        classes, concepts = interpretation.classes.names, interpretation.concepts.names
        kept = {("class", classes[place]) for place in content["classes"]["places"]}
        kept |= {("concept", concepts[place]) for place in content["concepts"]["places"]}
        regions = [_region(each, width) for each in content["regions"]]
        proofs = [_certificate(each, interpretation, regions) for each in content["proofs"]]
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the certificates are damaged: {error!r}") from None
    for proof in proofs:
        for row in (row for found in proof.refutations for row in found.rows):
            if not {(row.of, row.high), (row.of, row.low)} <= kept:
                raise InputError(
                    f"the certificates are damaged: the proof of {proof.spec!r} names planes of "
                    f"{row.high!r} and {row.low!r}, which are not in the file"
                )
    return proofs


def _certificate(
    content: Any, interpretation: Interpretation, regions: Sequence[Region]
) -> Certificate:
    return Certificate(
        str(content["spec"]),
        str(content["on"]),
        parse_formula(content["formula"]),
        interpretation,
        regions[content["region"]],
        tuple(
            Refutation(
                _way(found["way"]),
                tuple(_row(row) for row in found["rows"]),
                tuple(float.fromhex(weight) for weight in found["weights"]),
            )
            for found in content["refutations"]
        ),
    )


def _refutation_json(found: Refutation) -> dict[str, Any]:
    return {
        "way": {
            "rows": [_row_json(row) for row in found.way.rows],
            "tops": list(found.way.tops),
            "annotated": [[each.concept, each.present] for each in found.way.annotated],
        },
        "rows": [_row_json(row) for row in found.rows],
        "weights": [weight.hex() for weight in found.weights],
    }


def _row_json(row: Above) -> list[Any]:
    return [row.of, row.high, row.low, row.strict]


def _row(content: Any) -> Above:
    of, high, low, strict = content
    if of not in ("class", "concept"):
        raise InputError(f"the certificates are damaged: unknown row {of!r}")
    return Above(of, str(high), str(low), bool(strict))


def _way(content: Any) -> Way:
    return Way(
        tuple(_row(row) for row in content["rows"]),
        tuple(str(label) for label in content["tops"]),
        tuple(Annotated(str(name), bool(present)) for name, present in content["annotated"]),
    )


def _planes(linear: Linear, used: set[str]) -> dict[str, Any]:
    places = [place for place, name in enumerate(linear.names) if name in used]
    return {
        "places": places,
        "rows": _packed(linear.rows[places]),
        "offsets": _packed(linear.offsets[places]),
    }


def _linear(names: Sequence[str], content: Any, width: int) -> Linear:
    """The planes; those left out are zero, and no refutation names them."""
    places = [int(place) for place in content["places"]]
    rows, offsets = np.zeros((len(names), width)), np.zeros(len(names))
    rows[places] = _unpacked(content["rows"]).reshape(len(places), width)
    offsets[places] = _unpacked(content["offsets"])
    return Linear(tuple(str(name) for name in names), rows, offsets)


def _region_json(region: Region) -> dict[str, Any]:
    if isinstance(region, Box):
        return {"kind": "box", "low": _packed(region.low), "high": _packed(region.high)}
    if isinstance(region, Hull):
        return {"kind": "hull", "points": _packed(region.points)}
    if isinstance(region, Ball):
        return {"kind": "ball", "middle": _packed(region.middle), "radius": region.radius.hex()}
    raise TypeError(f"no region: {type(region).__name__}")


def _region(content: Any, width: int) -> Region:
    kind = content["kind"]
    if kind == "box":
        return Box(_unpacked(content["low"]), _unpacked(content["high"]))
    if kind == "hull":
        return Hull(_unpacked(content["points"]).reshape(-1, width))
    if kind == "ball":
        return Ball(_unpacked(content["middle"]), float.fromhex(content["radius"]))
    raise InputError(f"the certificates are damaged: unknown region {kind!r}")


def _packed(values: FloatArray) -> str:
    """Float64, little-endian, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode("ascii")


def _unpacked(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8").astype(np.float64)
