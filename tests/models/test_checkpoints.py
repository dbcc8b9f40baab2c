"""Weights out of files: how they are wrapped, how names are changed, and what does not fit."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nets
import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from profiler.errors import InputError, UsageError
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.subject.network import Subject, weights_digest

TINY = f"{tiny.__file__}:subject"


def trained() -> tiny.TinyNet:
    """The hand-made network with other numbers in it."""
    net = tiny.TinyNet()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.fill_(number + 0.5)
    return net


WANTED = weights_digest(trained())


def load(path: Path, spec: str = TINY, **options: Any) -> Subject:
    return load_subject(spec, nets.CPU, SubjectOptions(checkpoint=path, **options))


def saved(folder: Path, content: Any, name: str = "weights.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def state(prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in trained().state_dict().items()}


# --- what is unwrapped -----------------------------------------------------------------------


def test_safetensors(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    subject = load(tmp_path / "weights.safetensors")
    assert weights_digest(subject.model) == WANTED
    assert "weights.safetensors" in subject.weights


WRAPPED: dict[str, Callable[[], Any]] = {
    "nothing around it": state,
    "DataParallel": lambda: nn.DataParallel(trained()).state_dict(),
    "a training script": lambda: {"epoch": 3, "state_dict": state(), "optimizer": {"lr": 0.1}},
    "its options beside it": lambda: {"model": state(), "args": argparse.Namespace(lr=0.1)},
    "model_state_dict": lambda: {"model_state_dict": state()},
    "wrapped twice": lambda: {"model": {"state_dict": state()}},
    "torch.compile": lambda: {"model": state("_orig_mod.")},
    "DataParallel around torch.compile": lambda: state("module._orig_mod."),
    "Lightning": lambda: {"state_dict": state("model."), "pytorch-lightning_version": "2.1"},
    "Lightning with a loss": lambda: {
        "state_dict": state("net.") | {"loss.weight": torch.ones(4)},
        "callbacks": {},
    },
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=list(WRAPPED))
def test_wrappers_and_prefixes(tmp_path: Path, content: Callable[[], Any]) -> None:
    assert weights_digest(load(saved(tmp_path, content())).model) == WANTED


def test_averaged_weights_come_first_and_it_is_said(tmp_path: Path) -> None:
    """As in timm: they are what was evaluated."""
    raw = tiny.TinyNet().state_dict()
    subject = load(saved(tmp_path, {"state_dict": raw, "state_dict_ema": state()}))
    assert weights_digest(subject.model) == WANTED
    assert "its state_dict_ema" in subject.weights


@pytest.mark.parametrize(
    ("beside", "step"),
    [
        ({"epoch": 3}, 3.0),
        ({"epoch": 3, "global_step": torch.tensor(1200)}, 1200.0),
        ({"step": "40"}, 40.0),
        ({"step": "the last", "epoch": 2}, 2.0),
        ({"epoch": float("nan")}, None),
        ({"step": torch.ones(3)}, None),
        ({}, None),
    ],
)
def test_the_step_beside_the_weights(
    tmp_path: Path, beside: dict[str, Any], step: float | None
) -> None:
    subject = load(saved(tmp_path, {"state_dict": state(), **beside}))
    assert subject.step == step
    assert ("(step" in subject.weights) == (step is not None)


def test_the_step_in_a_safetensors_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors", metadata={"epoch": "7", "format": "pt"})
    assert load(tmp_path / "w.safetensors").step == 7.0


def test_what_is_left_aside_is_counted(tmp_path: Path) -> None:
    subject = load(saved(tmp_path, state("model.") | {"loss.weight": torch.ones(1)}))
    assert (
        "without the prefix 'model.'; 1 entry beside it left aside (loss.weight)" in subject.weights
    )


def test_a_name_that_only_looks_like_a_prefix_stays() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny.TinyNet()

    from profiler.models.subject.checkpoints import fit
    from profiler.models.subject.weight_files import Checkpoint

    fitted = fit(Checkpoint(Path("x"), {"": state("model.")}), Own())
    assert (fitted.prefix, fitted.is_whole) == ("", True)


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    net = models.resnet18()
    content = {n: t for n, t in net.state_dict().items() if "num_batches" not in n}
    subject = load(saved(tmp_path, content), "resnet18")
    assert torch.equal(subject.model.get_submodule("fc").weight, net.fc.weight)


def test_single_precision_of_half_precision(tmp_path: Path) -> None:
    subject = load(saved(tmp_path, {name: tensor.half() for name, tensor in state().items()}))
    assert subject.model.get_submodule("fc").weight.dtype == torch.float32


# --- over which sources ----------------------------------------------------------------------


def test_over_torchvision_without_a_download(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = models.resnet18()
    subject = load(saved(tmp_path, {"state_dict": net.state_dict()}), "resnet18")
    assert weights_digest(subject.model) == weights_digest(net)
    assert subject.input_text.endswith("(the default of the architecture)")


@pytest.mark.parametrize("spec", ["resnet18", "timm/resnet18"])
def test_the_number_of_classes_is_that_of_the_checkpoint(tmp_path: Path, spec: str) -> None:
    subject = load(saved(tmp_path, models.resnet18(num_classes=7).state_dict()), spec)
    assert subject.layers(["fc"])[0].units == 7
    assert "7 classes" in subject.weights


def test_over_the_image_tower_of_open_clip(tmp_path: Path) -> None:
    """From a file of the tower, and from one of the whole model."""
    import open_clip

    torch.manual_seed(1)
    whole = open_clip.create_model("ViT-S-32")
    for content in (whole.visual.state_dict(), whole.state_dict()):
        subject = load(saved(tmp_path, content), "open_clip:ViT-S-32/none")
        assert weights_digest(subject.model) == weights_digest(whole.visual)


def test_equal_weights_in_another_file_are_the_same_subject(tmp_path: Path) -> None:
    first = load(saved(tmp_path, state(), "a.pth"))
    (tmp_path / "below").mkdir()
    second = load(saved(tmp_path / "below", {"model": state()}, "b.pth"))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_subject(TINY, nets.CPU).fingerprint


@pytest.mark.parametrize(("name", "aux"), [("googlenet", True), ("googlenet", False)])
def test_the_network_that_torchvision_builds_for_its_own_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, aux: bool
) -> None:
    """No file says that its input is changed first; without that the outputs are others."""
    torch.manual_seed(1)
    settings = {"weights": None, "init_weights": False}
    net = models.get_model(name, transform_input=True, aux_logits=aux, **settings).eval()
    with torch.no_grad():  # so that there is something to see at the end
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    subject = load(saved(tmp_path, net.state_dict()), name)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        wanted, found = net(images), subject.model(images)
        net.transform_input = False
        assert not torch.allclose(net(images), wanted, rtol=0.01)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert "no file of weights says whether googlenet changes its input" in caplog.text


def test_inception_changes_its_input_as_with_torchvisions_weights() -> None:
    from profiler.models.subject.sources import find_source

    assert find_source("inception_v3").bare(7).model.transform_input is True
    assert "aux1." in find_source("googlenet").unused
    assert find_source("resnet18").unsaid == ""


def test_what_a_file_of_open_clip_does_not_say() -> None:
    from profiler.models.subject.sources import find_source

    assert "open_clip:ViT-B-32/openai" in find_source("open_clip:ViT-B-32/none").unsaid
    assert find_source("open_clip:ViT-B-32/openai").unsaid == ""
    assert find_source("open_clip:ViT-B-32-quickgelu/none").unsaid == ""
    assert find_source("open_clip:ViT-S-32/none").unsaid == ""


def test_a_network_that_asks_for_the_version_of_its_file(tmp_path: Path) -> None:
    net = models.mnasnet0_5()
    content = {"state_dict": nn.DataParallel(net).state_dict()}
    assert weights_digest(load(saved(tmp_path, content), "mnasnet0_5").model) == weights_digest(net)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.module = nn.Linear(3, 3)
        self.module.weight = self.one.weight


@pytest.mark.parametrize("tied_at_first", [True, False])
def test_shared_tensors_that_a_file_leaves_out(tmp_path: Path, tied_at_first: bool) -> None:
    from safetensors.torch import save_model

    from profiler.models.subject.checkpoints import fit, load
    from profiler.models.subject.weight_files import read_checkpoint

    net, model = Tied(), Tied()
    save_model(net, str(tmp_path / "m.safetensors"))
    if not tied_at_first:
        model.module.weight = nn.Parameter(torch.zeros(3, 3))
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    load(checkpoint, fit(checkpoint, model), model, partial=False, name="net")
    assert weights_digest(model) == weights_digest(net)


def test_a_part_that_is_called_as_a_wrapper_stays() -> None:
    from profiler.models.subject.checkpoints import fit
    from profiler.models.subject.weight_files import Checkpoint

    for prefix in ("", "module.", "net.module.", "_orig_mod."):
        content = {prefix + name: tensor for name, tensor in Tied().state_dict().items()}
        assert fit(Checkpoint(Path("x"), {"": content}), Tied()).is_whole


def test_averages_without_the_buffers_are_not_taken_but_named(tmp_path: Path) -> None:
    net, other = models.resnet18(num_classes=2), models.resnet18(num_classes=2)
    ema = dict(other.named_parameters())
    subject = load(saved(tmp_path, {"model": net.state_dict(), "ema": ema}), "resnet18")
    assert weights_digest(subject.model) == weights_digest(net)
    assert "averaged weights, but without bn1.running_mean" in subject.weights


def test_a_key_without_a_file() -> None:
    with pytest.raises(UsageError, match="--checkpoint-key is about a file"):
        SubjectOptions(checkpoint_key="teacher")


# --- what does not fit -----------------------------------------------------------------------


def without(*names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state().items() if name not in names}


MISFITS: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (
        lambda: without("color.bias", "fc.weight"),
        r"does not fit .*: 2 missing \(color.bias, fc.weight\); load what fits with --partial",
    ),
    "unexpected": (
        lambda: state() | {f"extra.{i}": torch.ones(1) for i in range(6)},
        r"6 unexpected \(extra.0, extra.1, extra.2, extra.3, …\)",
    ),
    "shape": (
        lambda: state() | {"fc.weight": torch.ones(2, 4)},
        r"1 of another shape \(fc.weight: \(2, 4\) in the file, \(4, 4\) in the model\)",
    ),
    "all of it": (
        lambda: (
            without("fc.weight") | {"head.weight": torch.ones(4, 4), "color.bias": torch.ones(9)}
        ),
        r"1 missing .*; 1 unexpected \(head.weight\); 1 of another shape \(color.bias",
    ),
    "a prefix and more": (
        lambda: {f"model.{n}": t for n, t in without("fc.weight").items()} | {"x": torch.ones(1)},
        r"1 missing \(fc.weight\); 1 unexpected \(x\)",
    ),
}


@pytest.mark.parametrize(("content", "message"), MISFITS.values(), ids=list(MISFITS))
def test_what_does_not_fit_is_named(
    tmp_path: Path, content: Callable[[], Any], message: str
) -> None:
    path = saved(tmp_path, content())
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "partial" in load(path, partial=True).weights


def test_a_partial_load_keeps_the_rest_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subject = load(saved(tmp_path, without("fc.weight")), partial=True)
    assert torch.equal(subject.model.get_submodule("fc").weight, tiny.TinyNet().fc.weight)
    assert bool((subject.model.get_submodule("color").bias == 1.5).all())
    assert "partial, 2 of 3 entries: 1 missing (fc.weight)" in subject.weights
    assert "the rest as the factory made it" in caplog.text


def test_the_random_rest_of_a_partial_load_is_seeded(tmp_path: Path) -> None:
    content = {n: t for n, t in models.resnet18().state_dict().items() if not n.startswith("fc")}
    path = saved(tmp_path, content)
    prints = [load(path, "resnet18", partial=True, seed=seed).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_nothing_that_fits_is_an_error_even_if_partial(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.ones(1)})
    with pytest.raises(InputError, match="has no entry that fits"):
        load(path, partial=True)


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--partial is about a file"):
        SubjectOptions(partial=True)
    with pytest.raises(UsageError, match="both name weights"):
        SubjectOptions(checkpoint=tmp_path, weights="IMAGENET1K_V1")


# --- what cannot be read ---------------------------------------------------------------------


class Harmful:
    """Would run a command if it were unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": state(), "extra": Harmful(tmp_path / "trace")})
    with pytest.raises(InputError, match=r"holds more than weights \(\w+.mkdir\)"):
        load(path)
    assert not (tmp_path / "trace").exists()


def test_a_pickled_module_that_is_another_network(tmp_path: Path) -> None:
    path = saved(tmp_path, nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"has no entry that fits .*: 3 missing") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "net.pt")
    with pytest.raises(InputError, match="is a TorchScript archive"):
        load(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99], ids=str)
def test_a_truncated_file(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(InputError, match=r"weights\.\w+' is damaged"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weights": [1, 2]}, "has no weights; its keys: epoch, weights"),
        ([torch.ones(1)], "it holds a list"),
        ({}, "it holds a dict"),
    ],
    ids=["no weights", "a list", "empty"],
)
def test_a_file_without_weights(tmp_path: Path, content: Any, message: str) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth' is absent"):
        load(tmp_path / "none.pth")
    with pytest.raises(InputError, match="is a folder without weights"):
        load(tmp_path)


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("hello\n")
    with pytest.raises(InputError, match="is damaged, incomplete or no file of torch"):
        load(tmp_path / "notes.pth")
