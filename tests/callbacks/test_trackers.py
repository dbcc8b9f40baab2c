"""What a tracker is sent is read back from it: real ones where they are installed."""

import importlib.util
import io
import json
import sqlite3
import sys
from pathlib import Path
from types import ModuleType
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
def test_mlflow(sent: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    # mlflow-skinny comes without what its database needs.
    full = importlib.util.find_spec("alembic")
    place = f"sqlite:///{tmp_path / 'mlflow.db'}" if full else (tmp_path / "runs").as_uri()
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(place)
    mlflow.set_experiment("watch")
    with mlflow.start_run() as run:
        send(mlflow, **sent)
    client = mlflow.MlflowClient()
    (kept,) = client.get_metric_history(run.info.run_id, "profiler/mean_r")
    assert (kept.step, kept.value) == (700, 0.25)
    paths = [each.path for each in client.list_artifacts(run.info.run_id, "profiler")]
    assert paths == ["profiler/timeline.html"]


def test_a_run_of_wandb(sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the real one, which is not installed here: the calls that its documentation names."""
    module: Any = ModuleType("wandb")
    calls: list[tuple[dict[str, Any], int]] = []

    class Run:
        __module__ = "wandb.sdk.wandb_run"

        def log(self, data: dict[str, Any], step: int) -> None:
            calls.append((data, step))

        def log_artifact(self, path: str) -> None:
            raise AssertionError

    module.Image = lambda image: ("image", image.size)
    module.Html = lambda path: ("html", Path(path).name)
    monkeypatch.setitem(sys.modules, "wandb", module)
    send(Run(), **sent)
    assert calls == [
        (
            {
                **sent["scalars"],
                "profiler/picture": ("image", (40, 20)),
                "profiler/timeline": ("html", "timeline.html"),
            },
            700,
        )
    ]


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
