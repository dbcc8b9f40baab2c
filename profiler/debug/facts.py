"""The facts of a diagnosis and of one confusion in it, and the paragraphs they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from profiler.concepts.heatmap import Finding
from profiler.core.wording import are, counted, joined, named
from profiler.debug.encoder_or_head import Fault, Shares
from profiler.debug.result import Confusion, Diagnosis
from profiler.llm.facts import Facts, Number, numbers_in

_MOST_CONFUSIONS = 3
_MOST_FINDINGS = 3

_SIDES = {Fault.HEAD: "the head", Fault.ENCODER: "the encoder"}


@dataclass(frozen=True, kw_only=True)
class _Told(Facts):
    """What the facts of a diagnosis and of one confusion have in common.

    Attributes:
        diagnosis: whole.
    """

    task: ClassVar[str] = ""

    diagnosis: Diagnosis

    def vocabulary(self) -> frozenset[str]:
        """Give the concepts and the classes."""
        return frozenset((*self.diagnosis.words, *self.diagnosis.classes))

    def wording(self) -> str:
        """Add what was done to the images."""
        return f"{self.task} {self.diagnosis.change}"

    def closing(self) -> str:
        """Say that the concepts rest on a poor linear alignment, if they do."""
        if not self.diagnosis.quality.warning:
            return ""
        return (
            "The linear alignment with the VLM's space is poor, so the statements about concepts "
            "are unreliable."
        )

    def finding_numbers(
        self, findings: Sequence[Finding], classes: tuple[str, ...] = ()
    ) -> list[Number]:
        """Give both shares of each of some findings, which are about some classes."""
        found = []
        for each in findings[:_MOST_FINDINGS]:
            more, less = self.diagnosis.words[each.more], self.diagnosis.words[each.less]
            about = (*classes, more, less)
            what = f"in which {more} is stronger than {less}"
            found += [
                Number(f"share of incorrect predictions {what}", 100 * each.wrong, "%", 1, about),
                Number(f"share of correct predictions {what}", 100 * each.right, "%", 1, about),
            ]
        return found

    def finding_text(self, findings: Sequence[Finding]) -> list[str]:
        """Write the first few findings."""
        words = self.diagnosis.words
        return [
            f"{named(words[f.more])} is stronger than {named(words[f.less])} in {100 * f.wrong:.1f}"
            f" % of the incorrect predictions and in {100 * f.right:.1f} % of the correct ones"
            for f in findings[:_MOST_FINDINGS]
        ]

    def finding_words(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """List the concepts of the first few findings."""
        words = self.diagnosis.words
        pairs = [(words[f.more], words[f.less]) for f in findings[:_MOST_FINDINGS]]
        return tuple(dict.fromkeys(word for pair in pairs for word in pair))

    @staticmethod
    def share_numbers(shares: Shares) -> list[Number]:
        """Give the counts of verdicts."""
        found = [
            Number("errors attributed to the encoder", shares.encoder),
            Number("errors attributed to the head", shares.head),
            Number("errors that are undetermined", shares.undetermined),
            Number("errors that are decided", shares.decided),
        ]
        if shares.head_share is not None:
            head = 100 * shares.head_share
            found += [
                Number("share of decided errors attributed to the head", head, "%", 1),
                Number("share of decided errors attributed to the encoder", 100 - head, "%", 1),
            ]
        return found

    @staticmethod
    def share_text(shares: Shares) -> str:
        """Write which half is at fault, and how often."""
        if not shares.decided:
            return "For none of these errors could encoder or head be determined."
        verdict, few = shares.verdict, shares.undetermined
        rest = f"; {counted(few, 'error')} {are(few)} undetermined" if few else ""
        if verdict is Fault.UNDETERMINED:
            return (
                f"As many errors are attributed to the encoder as to the head "
                f"({shares.encoder:,} each){rest}."
            )
        count = shares.head if verdict is Fault.HEAD else shares.encoder
        other = shares.decided - count
        side, second = _SIDES[verdict], _SIDES[Fault(1 - verdict)]
        if not other:
            whole = (
                "The one decided error is" if count == 1 else f"All {count:,} decided errors are"
            )
            return f"{whole} attributed to {side}{rest}."
        return (
            f"{count:,} of {shares.decided:,} decided errors "
            f"({100 * count / shares.decided:.1f} %) are attributed to {side}, {other:,} to "
            f"{second}{rest}."
        )


@dataclass(frozen=True, kw_only=True)
class DiagnosisFacts(_Told):
    """The facts that a diagnosis shows."""

    task: ClassVar[str] = (
        "The facts are the diagnosis of an image classifier: how often its predictions are "
        "correct, which classes it confuses, whether the errors are attributed to its encoder or "
        "to its head (the last linear layer), and which concepts are stronger in incorrect "
        "predictions than in correct ones. Say that in three to five sentences."
    )

    @property
    def _explained(self) -> list[tuple[Confusion, Finding]]:
        """The largest confusions and, of each, the concept pair that differs most.

        The pair that differs most over all incorrect predictions is not used: these images are of
        other classes than the correct ones, and differ for that reason alone.
        """
        pairs = [(each, each.findings) for each in self.diagnosis.confusions[:_MOST_CONFUSIONS]]
        return [(each, findings[0]) for each, findings in pairs if findings]

    def numbers(self) -> tuple[Number, ...]:
        """Give accuracy, verdicts, the largest confusions and the responsible concepts."""
        told, after, before = self.diagnosis, self.diagnosis.after, self.diagnosis.before
        found = [
            Number("images", after.images),
            Number("correct predictions", after.correct),
            Number("incorrect predictions", after.images - after.correct),
            Number("classes that have images", len(told.present)),
        ]
        if after.images:
            found.append(Number("accuracy", 100 * after.share, "%", 1))
        if told.change:
            found += [
                Number("accuracy on the unmodified images", 100 * before.share, "%", 1),
                Number("correct predictions on the unmodified images", before.correct),
                Number("predictions that the change made incorrect", told.shares.images),
                *numbers_in(told.change, "part of the change of the images"),
            ]
        found += numbers_in(self._reason, "part of the reason")
        found += self.share_numbers(told.shares)
        for each in told.confusions[:_MOST_CONFUSIONS]:
            true, predicted = told.classes[each.true], told.classes[each.predicted]
            what = f"images of {true} classified as {predicted}"
            found.append(Number(what, each.errors, about=(true, predicted)))
        for each, finding in self._explained:
            about = (told.classes[each.true], told.classes[each.predicted])
            found += self.finding_numbers([finding], about)
        return tuple(dict.fromkeys(found))

    @property
    def _reason(self) -> str:
        """Why all errors are attributed to one side, if they are."""
        return self.diagnosis.rules[self.diagnosis.rule].reason

    def wording(self) -> str:
        """Add the reason."""
        return f"{super().wording()} {self._reason}"

    def names(self) -> dict[str, tuple[str, ...]]:
        """Give the network, the classes confused and the responsible concepts."""
        told = self.diagnosis
        pairs = [
            (told.classes[each.true], told.classes[each.predicted])
            for each in told.confusions[:_MOST_CONFUSIONS]
        ]
        found = {
            "network": (told.classifier.name,),
            "classes": tuple(dict.fromkeys(name for pair in pairs for name in pair)),
            "concepts": self.finding_words([finding for _, finding in self._explained]),
            "change of the images": (told.change,) if told.change else (),
        }
        return {kind: names for kind, names in found.items() if names}

    def to_json(self) -> dict[str, Any]:
        """Add which half is at fault, and why if it was not decided image by image."""
        told = self.diagnosis
        return {
            **super().to_json(),
            "at fault for most": _SIDES.get(told.shares.verdict, "undetermined"),
            "reason": self._reason,
            "most frequent confusions": [
                {
                    "true": told.classes[each.true],
                    "predicted": told.classes[each.predicted],
                    "stronger in incorrect predictions": _pairs(told, each.findings[:1]),
                }
                for each in told.confusions[:_MOST_CONFUSIONS]
            ],
        }

    def template(self) -> str:
        """Write the paragraph from the counts."""
        sentences = [self._accuracy(), *self._errors(), self.closing()]
        return " ".join(filter(None, sentences))

    def _accuracy(self) -> str:
        told, after = self.diagnosis, self.diagnosis.after
        text = (
            f"{named(told.classifier.name)} classifies {after.correct:,} of {after.images:,} "
            f"images correctly ({100 * after.share:.1f} %)"
        )
        if not told.change:
            return f"{text}."
        return (
            f"{text} after {told.change}, and {told.before.correct:,} "
            f"({100 * told.before.share:.1f} %) of the unmodified images."
        )

    def _errors(self) -> list[str]:
        told = self.diagnosis
        wrong = told.after.images - told.after.correct
        if not told.shares.images:
            if told.change and wrong:
                return ["No correct prediction became incorrect, so there is no error to explain."]
            return ["There is no error to explain."]
        listed = [
            f"{named(told.classes[each.true])} classified as "
            f"{named(told.classes[each.predicted])} ({counted(each.errors, 'image')})"
            for each in told.confusions[:_MOST_CONFUSIONS]
        ]
        reason = self._reason
        many = told.shares.images
        caused = " that the change caused" if told.change else ""
        if many == 1:
            lines = [f"The one error{caused} is {listed[0]}."]
        elif told.confusions[0].errors > 1:
            lines = [
                f"The most frequent of the {many:,} errors{caused} {are(len(listed))} "
                f"{joined(listed)}."
            ]
        else:
            lines = [
                f"All {many:,} errors{caused} are between different pairs of classes; examples: "
                f"{joined(listed)}."
            ]
        lines.append(self.share_text(told.shares) + (f" The reason: {reason}." if reason else ""))
        if self._explained:
            lines += [
                f"Where {named(told.classes[each.true])} is classified as "
                f"{named(told.classes[each.predicted])}, {self.finding_text([finding])[0]}."
                for each, finding in self._explained
            ]
        else:
            lines.append(
                "In none of these confusions does a concept differ from the correct predictions "
                "beyond chance."
            )
        return lines


@dataclass(frozen=True, kw_only=True)
class ConfusionFacts(_Told):
    """The facts of the images of one class that were classified as another.

    Attributes:
        confusion: one of the diagnosis.
    """

    task: ClassVar[str] = (
        "The facts are about the images of one class that an image classifier classified as "
        "another: how many, whether these errors are attributed to its encoder or to its head "
        "(the last linear layer), and which concepts are stronger in them than in the correct "
        "predictions of the class. Say that in two or three sentences."
    )

    confusion: Confusion

    @property
    def _classes(self) -> tuple[str, str]:
        classes = self.diagnosis.classes
        return classes[self.confusion.true], classes[self.confusion.predicted]

    def numbers(self) -> tuple[Number, ...]:
        """Give counts and shares."""
        true, _ = self._classes
        row = self.diagnosis.confusion[self.confusion.true]
        found = [
            Number(
                "images of the class that were classified as the other class", self.confusion.errors
            ),
            Number(f"images of {true}", int(row.sum()), about=(true,)),
        ]
        found += self.share_numbers(self.confusion.shares[self.diagnosis.rule])
        found += self.finding_numbers(self.confusion.findings)
        return tuple(dict.fromkeys(found))

    def names(self) -> Mapping[str, Sequence[str]]:
        """Give both classes and the concepts."""
        found = {
            "classes": self._classes,
            "concepts": self.finding_words(self.confusion.findings),
        }
        return {kind: names for kind, names in found.items() if names}

    def to_json(self) -> dict[str, Any]:
        """Add the direction of what differs."""
        shares = self.confusion.shares[self.diagnosis.rule]
        return {
            **super().to_json(),
            "true class": self._classes[0],
            "predicted class": self._classes[1],
            "at fault for most": _SIDES.get(shares.verdict, "undetermined"),
            "stronger in incorrect predictions": _pairs(self.diagnosis, self.confusion.findings),
        }

    def closing(self) -> str:
        """Say nothing more: the page gives the limits that hold for all."""
        return ""

    def template(self) -> str:
        """Write the paragraph from the counts."""
        true, predicted = self._classes
        errors = self.confusion.errors
        total = int(self.diagnosis.confusion[self.confusion.true].sum())
        sentences = [
            f"{errors:,} of {counted(total, 'image')} of {named(true)} {are(errors)} classified as "
            f"{named(predicted)}.",
            self.share_text(self.confusion.shares[self.diagnosis.rule]),
        ]
        findings = self.finding_text(self.confusion.findings)
        if findings:
            sentences += [f"{finding}." for finding in findings]
        elif self.confusion.differential[self.confusion.level] is None:
            sentences.append(
                f"No image of {named(true)} is classified correctly, so there is nothing to "
                "compare these errors with."
            )
        else:
            sentences.append(
                "These images are too few to show which concepts are responsible: no difference "
                "from the correct predictions is beyond chance."
                if errors < FEW
                else "No concept differs from the correct predictions beyond chance."
            )
        return " ".join(sentences)


FEW = 20
"""Fewer images than these seldom make a difference significant."""


def _pairs(diagnosis: Diagnosis, findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [
        {"concept": diagnosis.words[f.more], "stronger than": diagnosis.words[f.less]}
        for f in findings[:_MOST_FINDINGS]
    ]
