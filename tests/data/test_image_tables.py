"""A CSV of images and what is known of them."""

from pathlib import Path

import pytest
from PIL import Image

from profiler.data.image_tables import QUARTERS, open_annotated
from profiler.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(40):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i:02d}.png")
    return tmp_path


def write(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "seen.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_columns_become_factors(folder: Path) -> None:
    rows = [f"{i:02d}.png;{'xy'[i % 2]};{i / 10};{i % 3 or ''};one;{i} red" for i in range(40)]
    found = open_annotated(write(folder, "File;side;weight;legs;site;note", rows))
    assert found.probe.names[3] == "03.png"
    assert found.factors.names == ("side", "weight", "legs")
    assert found.factors.levels == (("x", "y"), QUARTERS, ("none", "1", "2"))
    assert found.factors.codes[:3].tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 2]]
    assert found.factors.codes[-1].tolist() == [1, 3, 0]
    assert found.left_out == ("site", "note")
    assert found.probe.read(0).size == (8, 8)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("name,side", "00.png,x", "no column of paths"),
        ("image,side", "99.png,x", "line 2: there is no image '99.png'"),
        ("image,side", "00.png,x", "no column sorts the images"),
        ("image", "00.png", "paths alone"),
    ],
)
def test_what_cannot_be_used_is_said(folder: Path, header: str, row: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_annotated(write(folder, header, [row]))
