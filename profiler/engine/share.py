"""Every n-th shard of a pass, for arrays of jobs that share a cache folder and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from profiler.activations.collect import Collected
from profiler.activations.kept import InThisProcess, MissingShards, shard_key
from profiler.data.images import ProbeSet


@dataclass(frozen=True)
class Share:
    """An :class:`~profiler.activations.kept.Engine`: makes its part of the shards.

    Attributes:
        number: of this share, from 1.
        count: of all shares.
    """

    number: int
    count: int

    def hash(self, probe: ProbeSet) -> None:
        """See :class:`~profiler.activations.kept.Engine`: the probe set does it by itself."""

    def make(self, missing: MissingShards) -> Iterator[tuple[int, Collected | None]]:
        """See :class:`~profiler.activations.kept.Engine`.

        Raises:
            UnfinishedError: this share is made, and others are missing.
        """
        own = {i: each for i, each in missing.shards.items() if i % self.count == self.number - 1}
        if own:
            yield from InThisProcess().make(replace(missing, shards=own))
        others = [each for i, each in missing.shards.items() if i not in own]
        lacking = sum(
            not missing.store.has("shards", shard_key(missing.key, each)) for each in others
        )
        if lacking:
            raise UnfinishedError(
                f"share {self.number} of {self.count} is in the cache; {lacking} of "
                f"{missing.count} shards of the image pass are missing"
            )


class UnfinishedError(Exception):
    """A part of a pass is made; nothing is wrong, and there is no result yet."""
