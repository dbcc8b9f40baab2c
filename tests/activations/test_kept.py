"""A pass over the images is made once, bit by bit, and goes on where it was interrupted."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from profiler.activations import kept as passes
from profiler.activations import moments
from profiler.activations.collect import Collected
from profiler.activations.kept import InThisProcess, UnfinishedError, collect_once, cut
from profiler.core.store import Store
from profiler.data.encoded import EncodedImages
from profiler.data.images import ImageFolder, ImageSequence, ProbeSet, UnreadableImageError
from profiler.errors import InputError, ResourceError

SHARD = 8
TRIED = [0, 3]
"""Images that are read before a pass is made, to try the networks on."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of eight images, which are read in the order of the set."""
    monkeypatch.setattr(passes, "BLOCK", SHARD)
    monkeypatch.setattr(moments, "BLOCK", SHARD)
    monkeypatch.setattr(passes, "order_of", np.arange)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


class Interrupted(Exception):
    """In place of a process that is killed."""


@dataclass
class Counting:
    """A folder of images that counts how often each is read, and may be interrupted."""

    folder: ImageFolder
    reads: list[int] = field(default_factory=list)
    until: int | None = None
    bad: frozenset[int] = frozenset()
    """Images that cannot be read."""

    @property
    def title(self) -> str:
        return self.folder.title

    @property
    def names(self) -> Sequence[str]:
        return self.folder.names

    @property
    def fingerprint(self) -> str:
        return f"{self.folder.fingerprint} without {sorted(self.bad)}"

    def read(self, index: int) -> Image.Image:
        if index == self.until:
            raise Interrupted
        self.reads.append(index)
        if index in self.bad:
            raise UnreadableImageError("as the test wants")
        return self.folder.read(index)


@pytest.fixture
def probe(tmp_path: Path) -> Counting:
    """Twenty-nine images: shards of 8, 8, 8 and 5."""
    tiny.write_images(tmp_path / "images", 29)
    return Counting(ImageFolder.open(tmp_path / "images"))


def run(
    probe: ProbeSet,
    store: Store | None,
    factory: Callable[[], tuple[nn.Module, tiny.Preprocess]] = tiny.subject,
    *,
    layers: Sequence[str] = ("all",),
    pool: str = "auto",
    **options: Any,
) -> Collected:
    subject = tiny.tiny_subject(factory)
    vlm = options.pop("vlm", tiny.vlm())
    options = {"top": 5, "batch_size": 4} | options
    return collect_once(subject, subject.layers(layers, pool), vlm, probe, store=store, **options)


def same(one: Collected, other: Collected) -> None:
    assert len(one.tops) == len(other.tops)
    for a, b in zip(one.tops, other.tops, strict=True):
        assert a.layer == b.layer
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.activations, b.activations)
        np.testing.assert_array_equal(a.low, b.low)
    np.testing.assert_array_equal(one.embeddings[:], other.embeddings[:])
    np.testing.assert_array_equal(one.kept, other.kept)
    assert (one.skipped, one.batch_size) == (other.skipped, other.batch_size)
    assert len(one.matrices) == len(other.matrices)
    for x, y in zip(one.matrices, other.matrices, strict=True):
        np.testing.assert_array_equal(x[:], y[:])
    assert (one.moments is None) == (other.moments is None)
    if one.moments and other.moments:
        assert [*one.moments.to_arrays()] == [*other.moments.to_arrays()]
        for name, values in one.moments.to_arrays().items():
            np.testing.assert_array_equal(values, other.moments.to_arrays()[name])


def kept(store: Store, kind: str) -> list[dict[str, Any]]:
    """The keys of a kind."""
    return [dict(entry.key) for entry in store.entries() if entry.kind == kind]


def read_for(images: Sequence[int], times: int = 1) -> list[int]:
    """Which images are read where a pass over some is begun so many times."""
    return sorted([*TRIED * times, *images])


def damage(store: Store, kind: str, **with_key: object) -> None:
    """Cut the arrays of the entries of a kind short."""
    for entry in store.entries():
        if entry.kind == kind and with_key.items() <= entry.key.items():
            assert entry.arrays is not None
            entry.arrays.write_bytes(entry.arrays.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        (1, [1]),
        (256, [256]),
        (257, [256, 1]),
        (256 * 32, [256] * 32),
        (256 * 32 + 1, [512] * 16 + [1]),
        (10**6, [8192] * 122 + [576]),
    ],
)
def test_shards_cover_every_image_once(
    images: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    shards = cut(images)
    assert [len(shard) for shard in shards] == sizes
    assert [shard.start for shard in shards] == [0, *np.cumsum(sizes)[:-1]]


# --- made once -------------------------------------------------------------------------------


@pytest.mark.parametrize("matrices", [False, True])
def test_a_store_changes_nothing(probe: Counting, store: Store, matrices: bool) -> None:
    probe.bad = frozenset({3})
    plain = run(probe, None, matrices=matrices, moments=True)
    same(run(probe, store, matrices=matrices, moments=True), plain)
    same(run(probe, store, matrices=matrices, moments=True), plain)
    assert len(plain.matrices) == (2 if matrices else 0)


def test_a_second_pass_reads_no_image(probe: Counting, store: Store) -> None:
    told: list[int] = []
    run(probe, store, advance=told.append)
    assert sorted(probe.reads) == read_for(range(29))
    assert sum(told) == 29
    probe.reads.clear()
    told.clear()
    run(probe, store, top=29, batch_size=7, workers=0, advance=told.append)
    assert probe.reads == []
    assert told == [29]


def test_the_parts_are_put_away_at_the_end(probe: Counting, store: Store) -> None:
    run(probe, store)
    assert [entry.kind for entry in store.entries()] == ["passes", "embeddings"]
    assert len([path for path in store.folder.rglob("*") if path.is_file()]) == 4


class Stronger(tiny.TinyNet):
    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.fc.weight[0, 0] = 2


class OtherVLM(tiny.TinyVLM):
    fingerprint = "tiny-vlm-2"


def smaller() -> tuple[nn.Module, tiny.Preprocess]:
    steps = transforms.Compose([transforms.Resize((4, 4)), transforms.ToTensor()])
    return tiny.TinyNet(), steps


@pytest.mark.parametrize(
    "change",
    [
        {"factory": lambda: (Stronger(), tiny.to_tensor())},
        {"vlm": OtherVLM()},
        {"layers": ("fc",)},
        {"pool": "max"},
        {"matrices": True},
        {"precision": "bf16"},
    ],
    ids=["weights", "vlm", "layers", "pooling", "matrices", "precision"],
)
def test_whatever_decides_the_outcome_is_in_the_key(
    probe: Counting, store: Store, change: dict[str, Any]
) -> None:
    run(probe, store)
    probe.reads.clear()
    changed = run(probe, store, **change)
    assert sorted(probe.reads) == read_for(range(29))
    same(changed, run(probe, None, **change))
    assert len(kept(store, "passes")) == 2


def test_longer_lists_need_a_new_pass(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "KEPT_LENGTH", 6)
    assert run(probe, store).tops[0].images.shape == (4, 6)
    probe.reads.clear()
    assert run(probe, store, top=9).tops[0].images.shape == (4, 9)
    assert sorted(probe.reads) == read_for(range(29))


def test_other_images_need_a_new_pass(probe: Counting, store: Store) -> None:
    run(probe, store)
    Image.new("RGB", (16, 16), "black").save(probe.folder.folder / probe.names[0])
    again = Counting(ImageFolder.open(probe.folder.folder))
    same(run(again, store), run(again, None))
    assert len(kept(store, "passes")) == 2


# --- interrupted -----------------------------------------------------------------------------


@pytest.mark.parametrize(("until", "finished"), [(0, 0), (7, 0), (8, 1), (12, 1), (16, 2), (28, 3)])
def test_a_pass_goes_on_where_it_was_interrupted(
    probe: Counting, store: Store, until: int, finished: int
) -> None:
    whole = run(probe, None, matrices=True, moments=True)
    probe.reads.clear()
    probe.until = until
    with pytest.raises(Interrupted):
        run(probe, store, matrices=True, moments=True)
    assert len(kept(store, "shards")) == finished
    assert kept(store, "passes") == []
    probe.until = None
    probe.reads.clear()
    told: list[int] = []
    same(run(probe, store, matrices=True, moments=True, advance=told.append), whole)
    assert sorted(probe.reads) == read_for(range(finished * SHARD, 29))
    assert told[0] == finished * SHARD
    assert sum(told) == 29
    assert kept(store, "shards") == []


def test_images_are_read_in_random_order_and_numbered_in_that_of_the_set(
    probe: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = run(probe, None, matrices=True)
    monkeypatch.setattr(passes, "order_of", moments.order_of)
    probe.reads.clear()
    same(run(probe, None, matrices=True), in_order)
    assert probe.reads[len(TRIED) :] == moments.order_of(29).tolist() != sorted(range(29))


def test_it_may_be_interrupted_again_and_again(probe: Counting, store: Store) -> None:
    for until in (8, 16, 24):
        probe.until = until
        with pytest.raises(Interrupted):
            run(probe, store)
    probe.until = None
    run(probe, store)
    assert sorted(probe.reads) == read_for(range(29), times=4)


def test_interrupted_while_the_parts_are_put_together(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(passes, "merge", fail)
        with pytest.raises(Interrupted):
            run(probe, store)
    assert len(kept(store, "shards")) == 4
    probe.reads.clear()
    same(run(probe, store), run(probe, None))
    assert sorted(probe.reads) == read_for(range(29)), "only the comparison reads images"


def test_interrupted_before_the_parts_are_put_away(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "drop", lambda *_: None)
        run(probe, store)
    parts = [entry for entry in store.entries() if entry.kind == "shards"]
    (whole,) = [entry for entry in store.entries() if entry.kind == "passes"]
    assert sorted(part.name for part in parts) == sorted(whole.replaces)
    assert len(parts) == 4


def test_a_longer_list_starts_anew(probe: Counting, store: Store) -> None:
    """Shards kept for lists of one length are not taken for those of another."""
    probe.until = 16
    with pytest.raises(Interrupted):
        run(probe, store, matrices=True)
    probe.until = None
    same(run(probe, store), run(probe, None))


# --- damage ----------------------------------------------------------------------------------


def test_a_damaged_pass_is_made_again(probe: Counting, store: Store) -> None:
    whole = run(probe, store)
    embeddings = whole.embeddings[:]
    damage(store, "passes")
    probe.reads.clear()
    again = run(probe, store)
    assert sorted(probe.reads) == read_for(range(29))
    np.testing.assert_array_equal(again.embeddings[:], embeddings)
    assert not any(entry.fault() for entry in store.entries())


def test_a_damaged_part_is_made_again(probe: Counting, store: Store) -> None:
    probe.until = 26
    with pytest.raises(Interrupted):
        run(probe, store)
    probe.until = None
    damage(store, "shards", places=[8, 16])
    probe.reads.clear()
    same(run(probe, store), run(probe, None))
    assert sorted(probe.reads[2:15]) == [*range(8, 16), *range(24, 29)]


def test_parts_that_vanish_are_one_line(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those cleared away while they are put together."""
    merge = passes.merge

    def clear_first(*args: Any, **kwargs: Any) -> Collected:
        for entry in store.entries():
            store.remove(entry)
        return merge(*args, **kwargs)

    monkeypatch.setattr(passes, "merge", clear_first)
    with pytest.raises(
        ResourceError, match=r"parts of the image pass vanished from the cache .*run"
    ):
        run(probe, store)


def test_a_store_that_loses_what_it_is_given_is_one_line(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def lose(self: Store, kind: str, *args: Any, **kwargs: Any) -> None:
        put(self, kind, *args, **kwargs)
        damage(self, "passes")

    monkeypatch.setattr(Store, "put", lose)
    with pytest.raises(ResourceError, match="does not hold what is written to it"):
        run(probe, store)


# --- two at once -----------------------------------------------------------------------------


def test_another_process_was_faster(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has put the parts together and away when this one is about to do so."""
    merge = passes.merge

    def let_the_other_go_first(*args: Any, **kwargs: Any) -> Collected:
        monkeypatch.setattr(passes, "merge", merge)
        run(probe, store)
        return merge(*args, **kwargs)

    plain = run(probe, None)
    monkeypatch.setattr(passes, "merge", let_the_other_go_first)
    same(run(probe, store), plain)
    assert [entry.kind for entry in store.entries()] == ["passes", "embeddings"]


def test_another_process_was_faster_with_other_batches(
    probe: Counting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it kept stays, though its last bits may differ: it may be in use."""
    to_arrays = passes._to_arrays
    made: list[Collected] = []

    def let_the_other_finish(found: Collected) -> Any:
        if len(found.kept) == 29 and not made:
            made.append(found)
            made.append(run(probe, store, batch_size=3))
        return to_arrays(found)

    monkeypatch.setattr(passes, "_to_arrays", let_the_other_finish)
    found = run(probe, store, batch_size=4)
    assert [entry.kind for entry in store.entries()] == ["passes", "embeddings"]
    assert not any(entry.fault() for entry in store.entries())
    np.testing.assert_array_equal(found.embeddings[:], made[1].embeddings[:])
    assert made[1].embeddings[3:5].shape == (2, 12), "what the other reads is still there"


# --- images that cannot be read --------------------------------------------------------------


def test_a_shard_without_a_readable_image(probe: Counting, store: Store) -> None:
    probe.bad = frozenset(range(8, 16))
    found = run(probe, store, allow_bad=True, matrices=True)
    same(found, run(probe, None, allow_bad=True, matrices=True))
    same(found, run(probe, store, allow_bad=True, matrices=True))
    assert found.kept.tolist() == [*range(8), *range(16, 29)]
    assert [item.name for item in found.skipped] == list(probe.names[8:16])
    assert len(found.embeddings) == 21
    assert found.tops[0].images.max() <= 20


@pytest.mark.parametrize("first", [0, 24])
def test_it_may_be_the_first_or_the_last(probe: Counting, store: Store, first: int) -> None:
    probe.bad = frozenset(range(first, min(first + SHARD, 29)))
    found = run(probe, store, allow_bad=True)
    same(found, run(probe, None, allow_bad=True))
    assert len(found.kept) == 29 - len(probe.bad)


def test_none_that_can_be_read(probe: Counting, store: Store) -> None:
    probe.bad = frozenset(range(29))
    for _ in range(2):
        with pytest.raises(InputError, match="none of the 29 probe images can be read; first: as"):
            run(probe, store, allow_bad=True)
    assert kept(store, "passes") == []


def test_they_are_counted_across_shards(probe: Counting, store: Store) -> None:
    """One in a shard is less than 5 % of all images; two together are more."""
    probe.bad = frozenset({2})
    assert len(run(probe, store).skipped) == 1
    probe.bad = frozenset({2, 20})
    probe.reads.clear()
    with pytest.raises(InputError, match=r"more than 5% of the 29 .*--allow-bad$"):
        run(probe, store)
    assert max(probe.reads) < 24, "it stops as soon as there are too many"
    assert len(kept(store, "shards")) == 2


def test_those_of_shards_that_are_kept_count_too(probe: Counting, store: Store) -> None:
    probe.bad = frozenset({2, 20})
    probe.until = 16
    with pytest.raises(Interrupted):
        run(probe, store)
    probe.until = None
    with pytest.raises(InputError, match=r"more than 5% of the 29 probe images"):
        run(probe, store)


def test_a_kept_pass_does_not_excuse_them(probe: Counting, store: Store) -> None:
    """The same command has the same outcome, whatever another has left in the cache."""
    probe.bad = frozenset({2, 3})
    found = run(probe, store, allow_bad=True)
    with pytest.raises(InputError, match=r"more than 5% .*first: '0002_blue\.png', as the test"):
        run(probe, store)
    probe.reads.clear()
    same(run(probe, store, allow_bad=True), found)
    assert probe.reads == []


def test_going_on_with_allow_bad_reads_only_the_rest(probe: Counting, store: Store) -> None:
    probe.bad = frozenset({9, 10})
    with pytest.raises(InputError, match="more than 5%"):
        run(probe, store)
    probe.reads.clear()
    found = run(probe, store, allow_bad=True)
    assert sorted(probe.reads) == read_for(range(8, 29))
    same(found, run(probe, None, allow_bad=True))


def test_odd_names_and_reasons_survive(probe: Counting, store: Store) -> None:
    odd = "a\nb \N{SNOWMAN} 'c'.png"
    os.rename(probe.folder.folder / probe.names[0], probe.folder.folder / odd)
    again = Counting(ImageFolder.open(probe.folder.folder))
    again.bad = frozenset({again.names.index(odd)})
    run(again, store)
    assert run(again, store).skipped[0].name == odd
    assert json.dumps(kept(store, "passes"))


def test_a_pass_that_kept_all_activations_serves_one_that_wants_none(
    probe: Counting, store: Store
) -> None:
    whole = run(probe, store, matrices=True)
    probe.reads.clear()
    same(run(probe, store), whole)
    assert probe.reads == []


# --- another subject on the same images ------------------------------------------------------


def other_subject() -> tuple[nn.Module, tiny.Preprocess]:
    """The next checkpoint, say: other weights, and as many units."""
    model, preprocess = tiny.subject()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(0.5).add_(0.1)
    return model, preprocess


class Seeing(tiny.TinyVLM):
    """Counts the images that it prepares and embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = self.embedded = 0
        prepare = self.preprocess

        def counted(image: Image.Image) -> torch.Tensor:
            self.prepared += 1
            return prepare(image)

        self.preprocess = counted

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        self.embedded += len(images)
        return super().embed_images(images)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_vlm_sees_the_images_once(probe: Counting, store: Store, workers: int) -> None:
    options: dict[str, Any] = {"matrices": True, "moments": True, "workers": workers}
    same(run(probe, store, **options), run(probe, None, **options))
    eyes = Seeing()
    found = run(probe, store, other_subject, vlm=eyes, **options)
    assert (eyes.prepared, eyes.embedded) == (0, 0)
    same(found, run(probe, None, other_subject, **options))
    same(run(probe, store, other_subject, vlm=eyes, **options), found)


def test_also_where_the_other_subject_was_interrupted(probe: Counting, store: Store) -> None:
    for until in (12, None):
        probe.until = until
        try:
            run(probe, store, moments=True)
        except Interrupted:
            assert kept(store, "embeddings") == []
    eyes = Seeing()
    probe.until = 20
    with pytest.raises(Interrupted):
        run(probe, store, other_subject, vlm=eyes, moments=True)
    probe.until = None
    found = run(probe, store, other_subject, vlm=eyes, moments=True)
    assert eyes.prepared == 0
    same(found, run(probe, None, other_subject, moments=True))


@pytest.mark.parametrize(
    "other",
    [{"vlm": tiny.caption_vlm()}, {"precision": "bf16"}, {"batch_size": 1}],
    ids=lambda other: next(iter(other)),
)
def test_whatever_decides_an_embedding_is_in_its_key(
    probe: Counting, store: Store, other: dict[str, Any]
) -> None:
    run(probe, store)
    same(run(probe, store, **other), run(probe, None, **other))
    assert len(kept(store, "embeddings")) == 2
    assert all("subject" not in key and "layers" not in key for key in kept(store, "embeddings"))


def test_images_that_cannot_be_read_are_the_same_for_both(probe: Counting, store: Store) -> None:
    probe.bad = frozenset({2, 20})
    one = run(probe, store, allow_bad=True)
    eyes = Seeing()
    probe.reads.clear()
    other = run(probe, store, other_subject, vlm=eyes, allow_bad=True)
    assert (eyes.prepared, other.skipped, other.kept.tolist()) == (
        0,
        one.skipped,
        one.kept.tolist(),
    )
    assert not {2, 20} & {*probe.reads}
    same(other, run(probe, None, other_subject, allow_bad=True))
    with pytest.raises(InputError, match="more than 5%"):
        run(probe, store, other_subject, layers=("fc",), vlm=eyes)


def test_changed_images_leave_nothing_and_take_nothing(probe: Counting, store: Store) -> None:
    class Darker:
        text = "darker"

        def __call__(
            self, indices: Sequence[int], images: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return images / 2, images / 2

    run(probe, store, change=Darker())
    assert kept(store, "embeddings") == []
    run(probe, store)
    found = run(probe, store, other_subject, change=Darker())
    same(found, run(probe, None, other_subject, change=Darker()))
    assert len(kept(store, "embeddings")) == 1


def test_damaged_embeddings_are_made_again(probe: Counting, store: Store) -> None:
    run(probe, store)
    damage(store, "embeddings")
    eyes = Seeing()
    same(run(probe, store, other_subject, vlm=eyes), run(probe, None, other_subject))
    assert eyes.embedded > 29
    assert not any(entry.fault() for entry in store.entries())


def test_a_preprocessing_that_gives_nan_is_refused_all_the_same(
    probe: Counting, store: Store
) -> None:
    def broken() -> tuple[nn.Module, tiny.Preprocess]:
        model, preprocess = other_subject()
        return model, lambda image: preprocess(image) * torch.nan

    run(probe, store)
    with pytest.raises(InputError, match="the model's preprocessing gives NaN"):
        run(probe, store, broken)


# --- files are hashed as they are read -------------------------------------------------------


@dataclass
class Blobs:
    """Files in memory, which count how often each is fetched."""

    files: dict[str, bytes]
    fetched: list[str] = field(default_factory=list)
    until: str = ""

    @property
    def names(self) -> list[str]:
        return [*self.files]

    def blob(self, place: int) -> bytes:
        name = self.names[place]
        if name == self.until:
            raise Interrupted
        self.fetched.append(name)
        return self.files[name]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Twenty-nine files, in shards of 8, 8, 8 and 5."""
    tiny.write_images(tmp_path / "photos", 29)
    return Blobs({path.name: path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())})


def opened(blobs: Blobs) -> EncodedImages:
    """As another command would open them, which knows no hash."""
    blobs.fetched.clear()
    return EncodedImages.open(blobs, "photos")


def fetched(blobs: Blobs) -> list[int]:
    """Which were fetched since they were opened."""
    return sorted(map(blobs.names.index, blobs.fetched))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_first_pass_fetches_every_file_once(blobs: Blobs, store: Store, workers: int) -> None:
    probe = opened(blobs)
    found = run(probe, store, workers=workers)
    assert probe.is_hashed
    assert workers or fetched(blobs) == read_for(range(29))
    again = opened(blobs)
    assert probe.fingerprint == again.fingerprint
    assert kept(store, "passes")[0]["probe"] == again.fingerprint
    same(found, run(opened(blobs), None))


def test_files_of_a_kept_pass_are_hashed_and_the_networks_do_nothing(
    blobs: Blobs, store: Store
) -> None:
    whole = run(opened(blobs), store)
    probe = opened(blobs)
    same(run(probe, store), whole)
    assert fetched(blobs) == [*range(29)]
    eyes = Seeing()
    run(opened(blobs), store, other_subject, vlm=eyes)
    assert eyes.embedded == 0


def test_a_changed_file_costs_the_shard_that_it_is_in(blobs: Blobs, store: Store) -> None:
    blobs.until = blobs.names[26]
    with pytest.raises(Interrupted):
        run(opened(blobs), store)
    assert len(kept(store, "shards")) == 3
    blobs.until = ""
    blobs.files[blobs.names[9]] = blobs.files[blobs.names[2]]
    probe = opened(blobs)
    found = run(probe, store)
    hashed, made = [*range(24)], [*range(8, 16), *range(24, 29)]
    assert fetched(blobs) == read_for([*hashed, *made])
    same(found, run(opened(blobs), None))
    assert probe.fingerprint == opened(blobs).fingerprint


def test_two_sets_of_one_size_do_not_mix(blobs: Blobs, store: Store) -> None:
    """Another command's shards, of other files, lie in the same cache."""
    others = Blobs({name: blobs.files[blobs.names[-1 - i]] for i, name in enumerate(blobs.names)})
    for each in (blobs, others):
        each.until = each.names[20]
        with pytest.raises(Interrupted):
            run(opened(each), store)
        each.until = ""
    assert len(kept(store, "shards")) == 4
    for each in (blobs, others):
        same(run(opened(each), store), run(opened(each), None))


def test_a_job_of_an_array_fetches_its_own_images(blobs: Blobs, store: Store) -> None:
    with pytest.raises(UnfinishedError, match="2 of 4 shards of the image pass are missing"):
        run(opened(blobs), store, engine=InThisProcess(1, 2))
    assert fetched(blobs) == read_for([*range(8), *range(16, 24)])
    found = run(opened(blobs), store, engine=InThisProcess(2, 2))
    assert fetched(blobs) == read_for(range(29)), "the last one compares those of the others"
    same(found, run(opened(blobs), None))


def test_the_last_job_takes_no_shard_of_files_that_changed(blobs: Blobs, store: Store) -> None:
    with pytest.raises(UnfinishedError):
        run(opened(blobs), store, engine=InThisProcess(1, 2))
    blobs.files[blobs.names[3]] = blobs.files[blobs.names[4]]
    with pytest.raises(UnfinishedError, match="1 of 4 shards"):
        run(opened(blobs), store, engine=InThisProcess(2, 2))
    same(run(opened(blobs), store, engine=InThisProcess(1, 2)), run(opened(blobs), None))


def test_a_file_that_changes_between_hash_and_decoder_is_left_out(
    tmp_path: Path, store: Store
) -> None:
    tiny.write_images(tmp_path / "photos", 29)
    folder = ImageFolder.open(tmp_path / "photos")
    content, victim = ImageFolder._content, 5

    def then_changed(self: ImageFolder, index: int) -> tuple[tuple[int, int], bytes]:
        found = content(self, index)
        if index == victim:
            Image.new("RGB", (40, 40), "red").save(self.folder / self.files[index])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFolder, "_content", then_changed)
        found = run(folder, store, allow_bad=True)
    assert [(item.index, item.reason) for item in found.skipped] == [
        (victim, "the file was changed after it was first read")
    ]


class Flickering(Sequence[Image.Image]):
    """A data set with a random transform."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return 29

    def __getitem__(self, place: Any) -> Any:
        return Image.fromarray(self.rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_with_a_random_transform_is_refused(store: Store, workers: int) -> None:
    said = r"more than 5% of the 29 probe images .* it is another image each time it is read"
    with pytest.raises(InputError, match=said):
        run(ImageSequence.open(Flickering()), store, workers=workers)
    with pytest.raises(InputError, match=said):
        run(ImageSequence.open(Flickering()), None, workers=workers)
