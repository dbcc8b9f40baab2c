"""The image pass on a Ray cluster: the same bytes, whatever dies; real processes, tiny networks."""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command import Command
from forks import Forks
from guard_samples import WORDS, write_mixed
from PIL import Image

from profiler.activations.collect import Collected
from profiler.activations.kept import collect_once
from profiler.api.objects import open_inputs
from profiler.core.store import Store
from profiler.data.corruptions import CorruptedProbe, Corruption
from profiler.data.images import ImageFolder
from profiler.engine import cluster as of_ray
from profiler.engine.cluster import RayCluster
from profiler.errors import EnvironmentFailure, InputError, OutputError, UsageError
from profiler.models.subject.loading import load_subject

pytest.importorskip("ray", reason="Ray is not installed: pip install 'vision-profiler[ray]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    # With --dist loadgroup, one process of the suite has the cluster.
    pytest.mark.xdist_group("ray"),
]

CPU = torch.device("cpu")
IMAGES = 1100
"""Shards of 256, 256, 256, 256 and 76."""
NETWORKS = """
import os, signal, time
import torch
import tiny

def slow():
    model, prepare = tiny.subject()
    def preprocess(image):
        time.sleep(0.002)
        return prepare(image)
    return model, preprocess

def deadly():
    '''Kills the process that prepares an image which is black on its left, as a decoder may.'''
    model, prepare = tiny.subject()
    def preprocess(image):
        if image.size == (3, 3):
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(image)
    return model, preprocess

class Moody(tiny.TinyNet):
    def forward(self, images):
        if len(images) and images.abs().amax(dim=(1, 2, 3)).min() == 0:
            raise RuntimeError("as the test wants")
        return super().forward(images)

def moody():
    return Moody(), tiny.to_tensor()

def hungry():
    return tiny.hungry()
"""
DRIVER = """
import sys
sys.path[:0] = [{samples!r}, {root!r}]
from tests.engine.test_cluster import observed
observed({folder!r}, {cache!r}, {address!r})
"""
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of one node with one CPU, to which tests may add others."""
    import ray
    from ray.cluster_utils import Cluster

    path = os.pathsep.join([str(ROOT / "tests" / "samples"), str(ROOT)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path_factory.mktemp("auth") / "token"))
        logging.getLogger("ray").setLevel(logging.ERROR)
        found = Cluster(initialize_head=True, head_node_args=_node())
        # One connection for all tests, so that worker processes are used again.
        ray.init(found.address, log_to_driver=False, logging_level=logging.ERROR)
        yield found
        ray.shutdown()
        found.shutdown()


def _node(**more: Any) -> dict[str, Any]:
    return {
        "num_cpus": 1,
        "include_dashboard": False,
        "object_store_memory": 80_000_000,
        **more,
    }


@contextlib.contextmanager
def another(nodes: Any, **more: Any) -> Iterator[Any]:
    """One more node with one CPU, while the context is open."""
    node = nodes.add_node(**_node(**more))
    try:
        yield node
    finally:
        if node in nodes.worker_nodes:
            nodes.remove_node(node)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and networks in a file."""
    made = tmp_path_factory.mktemp("desk")
    tiny.write_images(made / "photos", IMAGES)
    (made / "photos" / "broken.png").write_bytes(b"no image")
    (made / "nets.py").write_text(NETWORKS)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run in one process keeps."""
    cache = tmp_path_factory.mktemp("local")
    torch.set_num_threads(1)
    observed(folder, cache)
    return bytes_of(cache)


def observed(
    folder: Path | str,
    cache: Path | str,
    address: str = "",
    *,
    subject: str = "slow",
    engine: dict[str, Any] | None = None,
    **options: Any,
) -> Collected:
    """A pass over the images, on a cluster if an address is given."""
    folder = Path(folder)
    inputs = partial(open_inputs, str(folder / "photos"), "visual", f"{tiny.__file__}:vlm")
    network = load_subject(f"{folder / 'nets.py'}:{subject}", CPU)
    probe, _, eyes = inputs(CPU)
    with contextlib.ExitStack() as stack:
        where = None
        if address:
            where = stack.enter_context(RayCluster(inputs, address, **(engine or {})))
        return collect_once(
            *(network, network.layers(), eyes(), probe),
            top=5,
            store=Store(Path(cache)),
            matrices=True,
            moments=True,
            engine=where,
            **options,
        )


def bytes_of(cache: Path) -> dict[str, str]:
    """Every file of a cache with its hash.

    Without drafts: one that is killed as it writes leaves its own, which nobody takes for an entry.
    """
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def kept(cache: Path) -> int:
    return len(list(cache.glob("shards/*.json")))


def working(nodes: Any) -> list[int]:
    """Processes that make a shard right now."""
    raylets = {
        each.process.pid
        for node in nodes.list_all_nodes()
        for each in node.all_processes.get("raylet", ())
    }
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and b"ray::make_shard" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def once(work: Callable[[], object]) -> Callable[[int], None]:
    """As ``advance``: does something when the first shard is done."""
    left = [work]

    def advance(count: int) -> None:
        if count == 256 and left:
            left.pop()()

    return advance


def test_one_worker(
    nodes: Any,
    folder: Path,
    tmp_path: Path,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    content = ImageFolder._content

    def counted(self: ImageFolder, index: int) -> tuple[tuple[int, int], bytes]:
        read.append(index)
        return content(self, index)

    monkeypatch.setattr(ImageFolder, "_content", counted)
    found = observed(folder, tmp_path, nodes.address)
    assert bytes_of(tmp_path) == expected
    assert [item.name for item in found.skipped] == ["broken.png"]
    assert len(read) == 5 * of_ray.COMPARED, "of each shard; the worker hashes what it reads"


@pytest.mark.weights
def test_the_command_writes_the_same_files(
    nodes: Any, folder: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\nyellow\n")
    written = []
    for out, engine in (("local", []), ("ray", ["--engine", "ray", "--address", nodes.address])):
        monkeypatch.setenv("PROFILER_CACHE_DIR", str(tmp_path / f"{out}-cache"))
        done = command(
            *("run", f"{tiny.__file__}:subject", "--vlm", f"{tiny.__file__}:vlm", "-j", 0),
            *("--probe", folder / "photos", "--concepts", tmp_path / "words.txt"),
            *("--threshold", 0, "--out", tmp_path / out, *engine),
        )
        assert done.status == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path / out / "report.html")
        assert ("shards were made by" in done.stderr) == (out == "ray")
        names = ("descriptions.csv", "units.safetensors", "profile.json")
        written.append([(tmp_path / out / name).read_bytes() for name in names])
    assert written[0] == written[1]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images of two shards, some of them misclassified; names of classes; words."""
    made = write_mixed(tmp_path_factory.mktemp("classes") / "images", 320, seed=1).parent
    (made / "classes.txt").write_text("\n".join(tiny.CLASSES))
    (made / "words.txt").write_text("\n".join(WORDS))
    return made


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "change", "files"),
    [
        ("debug", "", "heatmaps.npz map.safetensors"),
        ("debug", "--corrupt gaussian_noise:3", "heatmaps.npz map.safetensors"),
        ("debug", "--attack pgd --eps 16/255", "heatmaps.npz map.safetensors"),
        ("guard fit", "", "reference.safetensors"),
    ],
)
def test_passes_of_classifiers(
    name: str,
    change: str,
    files: str,
    nodes: Any,
    classes: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = []
    for out, engine in (("local", []), ("ray", ["--engine", "ray", "--address", nodes.address])):
        monkeypatch.setenv("PROFILER_CACHE_DIR", str(tmp_path / f"{out}-cache"))
        done = command(
            *(*name.split(), f"{tiny.__file__}:subject", "--data", classes / "images"),
            *("--classes", classes / "classes.txt", "--concepts", classes / "words.txt"),
            *("--vlm", f"{tiny.__file__}:caption_vlm", "-j", 0, "--out", tmp_path / out),
            *(*change.split(), *engine),
        )
        assert done.status == 0, done.stderr
        made = done.stderr.count("2 shards were made by")
        assert made == (0 if not engine else 2 if change else 1)
        content = [(tmp_path / out / each).read_bytes() for each in files.split()]
        written.append((content, bytes_of(tmp_path / f"{out}-cache" / "passes")))
    assert written[0] == written[1]


def test_results_come_back_where_the_folder_is_not_shared(
    nodes: Any,
    folder: Path,
    tmp_path: Path,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_ray, "_nonce", lambda _: contextlib.nullcontext("of another folder"))
    observed(folder, tmp_path, nodes.address)
    assert bytes_of(tmp_path) == expected


def test_workers_read_the_files_for_the_fingerprint(
    nodes: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_ray, "HASHED_AT_ONCE", 500)
    whole = ImageFolder.open(folder / "photos")
    shutil.copytree(folder / "photos", tmp_path / "here")
    probe = ImageFolder.open(tmp_path / "here", title=whole.title)
    for path in (tmp_path / "here").iterdir():
        path.write_bytes(b"what this process would read")
    inputs = partial(open_inputs, str(folder / "photos"), "visual", f"{tiny.__file__}:vlm")
    with RayCluster(inputs, nodes.address) as engine:
        engine.hash(CorruptedProbe(probe, Corruption("gaussian_noise", 3)))
        assert probe.fingerprint == whole.fingerprint
        (tmp_path / "here" / "broken.png").unlink()
        fewer = ImageFolder.open(tmp_path / "here")
        with pytest.raises(EnvironmentFailure, match="another number of images than the driver"):
            engine.hash(fewer)


def test_a_worker_is_killed_and_then_a_node_is_removed(
    nodes: Any,
    folder: Path,
    tmp_path: Path,
    expected: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            killed.extend(working(nodes)[:1])
        os.kill(killed[0], signal.SIGKILL)

    with another(nodes) as node, heard(caplog):
        observed(folder, tmp_path / "killed", nodes.address, advance=once(kill))
        assert killed
        assert "room for 2 workers of 1 CPU on 2 nodes" in caplog.text
        assert "its worker died" in caplog.text
        remove = once(lambda: nodes.remove_node(node, allow_graceful=False))
        observed(folder, tmp_path / "removed", nodes.address, advance=remove)
    assert bytes_of(tmp_path / "killed") == expected
    assert bytes_of(tmp_path / "removed") == expected


@contextlib.contextmanager
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The package's log, which an earlier call of the command line may have kept to itself."""
    log = logging.getLogger("profiler")
    log.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, "profiler"):
            yield
    finally:
        log.removeHandler(caplog.handler)


def test_the_same_call_goes_on_where_a_driver_was_killed(
    nodes: Any, forks: Forks, folder: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    cache = tmp_path / "cache"
    text = DRIVER.format(
        samples=str(ROOT / "tests" / "samples"),
        root=str(ROOT),
        folder=str(folder),
        cache=str(cache),
        address=nodes.address,
    )
    (tmp_path / "driver.py").write_text(text)
    driver = forks.start(tmp_path, script=tmp_path / "driver.py")
    deadline = time.monotonic() + 60
    while not kept(cache) and time.monotonic() < deadline and driver.alive:
        time.sleep(0.02)
    done = driver.kill()
    before = kept(cache)
    assert 0 < before < 5, done.stderr
    made: list[int] = []
    observed(folder, cache, nodes.address, advance=made.append)
    assert made[0] >= 256  # the shards that were there
    assert sum(made) == IMAGES + 1
    assert {path: value for path, value in bytes_of(cache).items() if ".shared" not in path} == (
        expected
    )


def test_a_node_with_another_version_of_a_package(nodes: Any, folder: Path, tmp_path: Path) -> None:
    about = tmp_path / "site" / "pillow-99.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 99.0\n")
    path = os.pathsep.join([str(about.parent), os.environ["PYTHONPATH"]])
    with (
        another(nodes, env_vars={"PYTHONPATH": path}),
        pytest.raises(EnvironmentFailure, match=r"node \S+ has pillow 99.0, this machine \d"),
    ):
        observed(folder, tmp_path / "cache", nodes.address)


@pytest.fixture
def harmed(folder: Path, tmp_path: Path) -> Path:
    """The same, fewer, with an image that is small and black."""
    made = tmp_path / "harmed"
    tiny.write_images(made / "photos", 300)
    Image.new("RGB", (3, 3)).save(made / "photos" / "0170_black.png")
    shutil.copy(folder / "nets.py", made)
    return made


def test_an_image_that_kills_its_decoder_is_named(
    nodes: Any, harmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_ray, "TRIES", 2)  # each takes a worker, which takes seconds to start
    with pytest.raises(InputError, match=r"the image '0170_black\.png' kills the process that dec"):
        observed(harmed, tmp_path, nodes.address, subject="deadly")


def test_a_shard_that_fails_three_times_is_named(nodes: Any, harmed: Path, tmp_path: Path) -> None:
    said = (
        r"shard \d of 2 \(\d+ images, .* failed 3 times, last on node \S+: RuntimeError: as the t"
    )
    with pytest.raises(EnvironmentFailure, match=said):
        observed(harmed, tmp_path, nodes.address, subject="moody", batch_size=1)


def test_a_full_disk(
    nodes: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_ray, "_nonce", lambda _: contextlib.nullcontext("of another folder"))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(OutputError, match=r"^cannot write '.*': No space left on device$"):
            observed(folder, disk / "cache", nodes.address)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_batches_are_halved_for_all_workers(nodes: Any, harmed: Path, tmp_path: Path) -> None:
    observed(harmed, tmp_path / "local", subject="hungry", batch_size=4)
    found = observed(harmed, tmp_path / "ray", nodes.address, subject="hungry")
    assert found.batch_size == 4
    assert bytes_of(tmp_path / "local") == bytes_of(tmp_path / "ray")


def test_what_the_store_holds_needs_no_cluster(
    harmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed(harmed, tmp_path, subject="hungry", batch_size=4)
    monkeypatch.setattr(RayCluster, "_connected", None)
    observed(harmed, tmp_path, "auto", subject="hungry", batch_size=4)


def test_a_run_that_stalls_says_what_is_pending(
    nodes: Any, harmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_ray, "PATIENCE", 0.5)
    monkeypatch.setattr(of_ray, "_TICK", 0.1)
    with pytest.raises(EnvironmentFailure, match=r"shards 1, 2 of 2 are pending, .* 1 CPUs and"):
        observed(harmed, tmp_path, nodes.address, engine={"cpus": 5})


def test_a_file_that_a_worker_does_not_have(nodes: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.py").write_text(NETWORKS)
    network = load_subject(f"{tmp_path / 'gone.py'}:slow", CPU)
    inputs = partial(open_inputs, str(folder / "photos"), "visual", f"{tiny.__file__}:vlm")
    probe, _, eyes = inputs(CPU)
    (tmp_path / "gone.py").unlink()
    with (
        RayCluster(inputs, nodes.address) as engine,
        pytest.raises(EnvironmentFailure, match=r"node \S+: .*there is no file '.*gone.py'"),
    ):
        collect_once(
            *(network, network.layers(), eyes(), probe), top=5, store=Store(tmp_path), engine=engine
        )


def test_a_network_in_memory_is_refused(folder: Path, tmp_path: Path) -> None:
    subject = tiny.tiny_subject()
    inputs = partial(open_inputs, str(folder / "photos"), "visual", f"{tiny.__file__}:vlm")
    probe, _, eyes = inputs(CPU)
    with pytest.raises(UsageError, match=r"in memory; give its name, or a FILE.py:FACTORY"):
        collect_once(
            *(subject, subject.layers(), eyes(), probe),
            top=5,
            store=Store(tmp_path),
            engine=RayCluster(inputs),
        )
