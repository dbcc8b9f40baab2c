"""What a tracker is sent is read back from it: real ones where they are installed."""

import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TinyNet, TinyVLM, to_tensor, write_images

from profiler.callbacks import Watch
from profiler.callbacks.trackers import send

WORDS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]


@pytest.fixture
def sent(tmp_path: Path) -> dict[str, Any]:
    """What is sent of a step."""
    page = tmp_path / "timeline.html"
    page.write_text("<!DOCTYPE html><html><body><p>how r grows</p></body></html>")
    return {
        "step": 700,
        "scalars": {"profiler/mean_r": 0.25, "profiler/dead": 0.0},
        "image": Image.new("RGB", (40, 20), "#0072b2"),
        "page": page,
    }


def test_tensorboard(sent: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "runs") as writer:
        send(writer, **sent)
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    found = {name: events.Scalars(name)[0] for name in events.Tags()["scalars"]}
    assert {name: (each.step, each.value) for name, each in found.items()} == {
        "profiler/mean_r": (700, 0.25),
        "profiler/dead": (700, 0.0),
    }
    (picture,) = events.Images("profiler/picture")
    kept = Image.open(io.BytesIO(picture.encoded_image_string)).convert("RGB")
    assert kept.size == (40, 20)
    assert kept.getpixel((3, 3)) == (0, 0x72, 0xB2)
    (text,) = events.Tensors("profiler/timeline/text_summary")
    assert str(sent["page"]) in text.tensor_proto.string_val[0].decode()


@pytest.mark.filterwarnings("ignore")
def test_trackio(sent: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [each for each in sys.modules if each.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    trackio = pytest.importorskip("trackio")
    run = trackio.init(project="watch", name="one", embed=False)
    send(trackio, **sent)
    send(run, **{**sent, "step": 800})
    trackio.finish()
    (file,) = (tmp_path / "trackio").glob("watch*.db")
    with sqlite3.connect(file) as base:
        rows = [
            (step, json.loads(metrics))
            for step, metrics in base.execute("select step, metrics from metrics order by step")
        ]
    assert [step for step, _ in rows] == [700, 800]
    for _, metrics in rows:
        assert metrics["profiler/mean_r"] == 0.25
        image, page = metrics["profiler/picture"], metrics["profiler/timeline"]
        assert (image["_type"], page["_type"]) == ("trackio.image", "trackio.html")
        (kept,) = (tmp_path / "trackio").rglob(Path(page["file_path"]).name)
        assert "how r grows" in kept.read_text("utf-8")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_on_sqlite(
    sent: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic", reason="mlflow-skinny comes without what its database needs")
    monkeypatch.chdir(tmp_path)
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(place)
    mlflow.set_experiment("watch")
    with mlflow.start_run() as run:
        send(mlflow, **sent)
    logger = pytest.importorskip("lightning.pytorch.loggers").MLFlowLogger(
        "watch", tracking_uri=place
    )
    send(logger, **sent)
    client = mlflow.MlflowClient()
    for run_id in (run.info.run_id, logger.run_id):
        (kept,) = client.get_metric_history(run_id, "profiler/mean_r")
        assert (kept.step, kept.value) == (700, 0.25)
        paths = [each.path for each in client.list_artifacts(run_id, "profiler")]
        assert paths == ["profiler/timeline.html"]
        images = [each.path for each in client.list_artifacts(run_id, "images")]
        assert any("profiler-picture" in path for path in images)
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        assert base.execute("select count(*) from metrics where step = 700").fetchone()[0] >= 4


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(sent: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    # In a process of its own, which takes W&B's threads with it.
    program = """
import wandb
from PIL import Image
from profiler.callbacks.trackers import send

how = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
run = wandb.init(mode="offline", project="watch", settings=how)
for tracker, step in ((run, 700), (wandb, 800)):
    image = Image.new("RGB", (40, 20), "#0072b2")
    send(tracker, step, {"profiler/mean_r": 0.25}, image, "timeline.html")
run.finish()
wandb.teardown()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=sent["page"].parent, capture_output=True, text=True,
        env=os.environ | {"WANDB_ERROR_REPORTING": "false"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    rows: list[dict[str, str]] = []
    for _ in range(100):  # a process of W&B's own writes the file
        records = map(Record.FromString, records_of(file.read_bytes()))
        found = [each.history.item for each in records if each.HasField("history")]
        rows = [{"/".join(i.nested_key) or i.key: i.value_json for i in row} for row in found]
        if len(rows) == 2:
            break
        time.sleep(0.2)
    assert [json.loads(row["_step"]) for row in rows] == [700, 800]
    for row in rows:
        assert json.loads(row["profiler/mean_r"]) == 0.25
        page, picture = (
            file.parent / "files" / json.loads(row[f"profiler/{each}/path"])
            for each in ("timeline", "picture")
        )
        assert "how r grows" in page.read_text("utf-8")
        with Image.open(picture) as image:
            assert image.size == (40, 20)


def records_of(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, of which W&B's files are.

    Blocks of 32 KiB hold parts of records: a checksum (4 bytes), a length (2), a kind (1: whole,
    2: first, 3: middle, 4: last) and the part itself. The first 7 bytes of W&B's are its name.
    """
    position, parts = 7, b""
    while position + 7 <= len(content):
        if (rest := 32768 - position % 32768) < 7:
            position += rest
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_what_is_no_tracker_is_named_and_training_goes_on(cache: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 60)
    net = TinyNet()
    logged: list[tuple[int, dict[str, float]]] = []

    class Logger:
        experiment = None

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            logged.append((step, metrics))

    watch = Watch(
        net,
        images=tmp_path / "photos",
        preprocess=to_tensor(),
        vlm=TinyVLM(),
        concepts=WORDS,
        out=tmp_path / "profiles",
        top=6,
        log=(object(), Logger()),
    )
    with pytest.warns(RuntimeWarning, match="object could not be logged to: TypeError"):
        first = watch(0)
    with torch.no_grad():
        net.color.weight[0] = net.color.weight[1]  # red becomes green
    second = watch(1)
    assert first is not None
    assert second is not None
    assert [step for step, _ in logged] == [0, 1]
    names = [set(metrics) for _, metrics in logged]
    assert max(map(len, names)) <= 12
    assert names[1] - names[0] >= {"profiler/layers_changed", "profiler/labels_kept"}
    before, after = (metrics for _, metrics in logged)
    assert before["profiler/dead"] == 1 / 8  # the unit that is always 1
    assert 0 < after["profiler/labels_kept"] < 1
    assert np.isfinite(list(after.values())).all()
