"""Labelled images, class names and mappings as they are found in the world."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from profiler.data.images import ProbeSet, UnreadableImageError
from profiler.data.labelled.files import open_classes
from profiler.data.labelled.images import LabelledImages, open_labelled
from profiler.data.labelled.matching import match_classes
from profiler.data.labelled.names import IMAGENETS, ClassNames, fold
from profiler.data.labelled.numbering import reordered, suspicious
from profiler.data.labelled.reading import find_labelled, natural
from profiler.errors import InputError

PETS = ClassNames.of_list(["cat", "guinea pig", "dog"], "pets.txt")
IMAGENET = ClassNames.of_outputs(1000)


def tree(folder: Path, *names: str) -> Path:
    """Small images of these names, each of its own colour."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return folder


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def indices(labels: list[str], classes: ClassNames = PETS, **mapping: str) -> list[int]:
    matched = match_classes(labels, classes, mapping)
    return [matched.index[label] for label in labels]


# --- a folder with a subfolder a class -------------------------------------------------------


def test_images_have_the_class_of_the_first_folder_they_lie_in(tmp_path: Path) -> None:
    tree(tmp_path, "dog/10.png", "dog/9.png", "cat/a.jpg", "dog/old/dark/1.png", "Guinea-Pig/1.png")
    images = open_labelled(tmp_path, PETS)
    assert images.names == (
        "cat/a.jpg",
        "dog/9.png",
        "dog/10.png",
        "dog/old/dark/1.png",
        "Guinea-Pig/1.png",
    )
    assert images.labels == ("cat", "dog", "dog", "dog", "Guinea-Pig")
    assert images.truth.tolist() == [0, 2, 2, 2, 1]
    assert images.counts.tolist() == [1, 1, 3]
    assert images.title == tmp_path.name


def test_it_is_a_probe_set_that_reads_what_it_names(tmp_path: Path) -> None:
    tree(tmp_path, "cat/x.png", "dog/10.png", "dog/9.png")
    images: ProbeSet = open_labelled(tmp_path, PETS)
    assert [images.read(i).getpixel((0, 0)) for i in range(3)] == [(0, 0, 0), (2, 0, 0), (1, 0, 0)]
    assert pickle.loads(pickle.dumps(images)).read(1).size == (4, 4), "workers get a copy"


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "cat/._1.png", ".cache/1.png", "cat/.thumbs/1.png", ".x.png")
    written(tmp_path / "cat" / "notes.txt", "no image")
    written(tmp_path / "readme.md", "no image either")
    found = find_labelled(tmp_path)
    assert found.labels == ("cat",)
    assert found.empty == ()


def test_class_folders_without_an_image_are_said(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png")
    for name in ("dog10", "dog9", "__MACOSX"):
        (tmp_path / name).mkdir()
    written(tmp_path / "dog9" / "notes.txt", "")
    images = open_labelled(tmp_path, PETS)
    assert images.empty == ("dog9", "dog10")
    assert images.remarks()[0] == "class folders without an image: 'dog9', 'dog10'"


def test_pictures_that_are_passed_over_are_among_the_remarks(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}/{i}.png" for name in PETS.names for i in "ab"))
    written(tmp_path / "cat" / "phone.heic", "")
    (remark,) = open_labelled(tmp_path, PETS).remarks()
    assert remark.startswith("1 file passed over: 1 .heic (Pillow cannot read .heic here")


def test_images_outside_a_class_folder_are_an_error(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{i}.png" for i in range(12)), "cat/1.png")
    with pytest.raises(InputError, match=r"images directly in .*: '0.png', '1.png', '2.png'") as no:
        find_labelled(tmp_path)
    assert "'9.png' and 2 more; put each into a subfolder" in str(no.value)
    assert "CSV with the columns path,label" in str(no.value)


@pytest.mark.parametrize("make", ["missing", "empty", "empty classes"])
def test_folders_that_hold_nothing(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "data"
    if make != "missing":
        folder.mkdir()
    if make == "empty classes":
        (folder / "cat").mkdir()
    wanted = "does not exist; --data needs" if make == "missing" else "no images in"
    with pytest.raises(InputError, match=wanted):
        find_labelled(folder)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on this system")
@pytest.mark.parametrize("beside", [True, False])
def test_class_folders_may_be_links(tmp_path: Path, beside: bool) -> None:
    """A subset of a large set is often made of links."""
    large = tree(tmp_path / "large", "dog/1.png", "dog/2.png", "guinea pig/readme/3.png")
    data = tree(tmp_path / "data", "cat/1.png") if beside else tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "dog").symlink_to(large / "dog")
    (data / "empty").symlink_to(tmp_path, target_is_directory=True)
    (data / "empty").unlink()
    (tmp_path / "nothing").mkdir()
    (data / "empty").symlink_to(tmp_path / "nothing")
    (data / "broken").symlink_to(tmp_path / "gone")
    found = find_labelled(data)
    assert found.labels == (("cat",) if beside else ()) + ("dog", "dog")
    assert found.empty == ("empty",)
    assert found.images.read(len(found.labels) - 1).size == (4, 4)


@pytest.mark.skipif(os.name != "posix", reason="names are text on this system")
def test_folder_names_that_are_not_utf8_can_be_mapped(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system refuses such names")
    tree(Path(os.fsdecode(folder)), "1.png")
    images = open_labelled(tmp_path, PETS, {r"caf\xe9": "dog"})
    assert images.labels == (r"caf\xe9",)
    assert images.truth.tolist() == [2]
    assert images.read(0).size == (4, 4)
    assert len(images.fingerprint) == 64


def test_parts_of_a_data_set_are_recognised(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "val/cat/1.png")
    with pytest.raises(InputError, match="parts of a data set, not classes: give one of the fold"):
        open_labelled(tmp_path, PETS)


def test_a_limit_leaves_every_class_represented(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(6)))
    images = open_labelled(tmp_path, PETS, limit=4)
    assert images.names == ("cat/0.png", "cat/3.png", "dog/0.png", "dog/3.png")
    assert images.truth.tolist() == [0, 0, 2, 2]
    with pytest.raises(InputError, match="--limit must be at least 1, got 0"):
        open_labelled(tmp_path, PETS, limit=0)


def test_what_is_rare_or_absent_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "Cat/2.png", "dog/1.png")
    images = open_labelled(tmp_path, PETS, {"mouse": "dog"})
    assert images.remarks() == [
        "1 of the model's 3 classes have no image: 'guinea pig'",
        "classes with one image only: 'dog'",
        "several labels stand for one class: 'cat', 'Cat' → 0 cat",
        "labels of the mapping that no image has: 'mouse'",
    ]


def test_nothing_is_said_where_all_is_plain(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}/{i}.png" for name in PETS.names for i in "ab"))
    assert open_labelled(tmp_path, PETS).remarks() == []


def test_one_image_is_a_set(tmp_path: Path) -> None:
    images = open_labelled(tree(tmp_path, "dog/1.png"), PETS)
    assert images.truth.tolist() == [2]
    assert images.remarks() == [
        "2 of the model's 3 classes have no image: 'cat', 'guinea pig'",
        "classes with one image only: 'dog'",
    ]


def test_classes_after_the_last_with_an_image_are_missing_too(tmp_path: Path) -> None:
    images = open_labelled(tree(tmp_path, "cat/1.png"), PETS)
    assert images.counts.tolist() == [1, 0, 0]
    assert "2 of the model's 3 classes have no image: 'guinea pig', 'dog'" in images.remarks()


def test_a_damaged_image_is_met_when_it_is_read(tmp_path: Path) -> None:
    written(tmp_path / "dog" / "1.jpg", b"half an im")
    with pytest.raises(UnreadableImageError):
        open_labelled(tmp_path, PETS).read(0)


def test_the_fingerprint_is_that_of_images_labels_and_classes(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/2.png")
    table = tmp_path / "t.csv"

    def of(mapping: dict[str, str], labels: str = "ab") -> str:
        written(table, "path,label\na/1.png,{}\nb/2.png,{}\n".format(*labels))
        return open_labelled(table, PETS, mapping).fingerprint

    plain = of({"a": "cat", "b": "dog"})
    assert plain == of({"b": "2", "a": "CAT"})
    assert plain != of({"a": "dog", "b": "dog"}), "another class"
    assert plain != of({"a": "cat", "c": "dog"}, "ac"), "another label"
    tree(tmp_path, "b/2.png")
    assert plain != of({"a": "cat", "b": "dog"}), "another picture"


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=8, unique=True))
def test_natural_order_does_not_depend_on_the_order_before(names: list[str]) -> None:
    assert sorted(names, key=natural) == sorted(sorted(names), key=natural)


def test_a_folder_is_not_split_by_one_whose_name_begins_like_it() -> None:
    names = ["a/1.png", "a/2.png", "a b/1.png", "a-b/1.png"]
    assert sorted(set(names), key=natural) == names


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_come_in_the_order_of_counting(numbers: list[int]) -> None:
    names = [f"class/img_{number}.png" for number in numbers]
    wanted = [f"class/img_{number}.png" for number in sorted(numbers)]
    assert sorted(names, key=natural) == wanted


# --- a CSV of path and label -----------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("path,label\nx/2.png,dog\nx/1.png,cat\n", id="plain"),
        pytest.param("path,label\nx/2.png,dog\nx/1.png,cat", id="no last line end"),
        pytest.param("\ufeffpath,label\nx/2.png,dog\nx/1.png,cat\n", id="BOM"),
        pytest.param("path,label\r\nx/2.png,dog\r\nx/1.png,cat\r\n", id="Windows"),
        pytest.param("path,label\rx/2.png,dog\rx/1.png,cat\r", id="CR"),
        pytest.param('"path","label"\n"x/2.png","dog"\n"x/1.png","cat"\n', id="quotes"),
        pytest.param("\nPath , LABEL\n x/2.png , dog \n\n,\nx/1.png,cat\n\n", id="blanks"),
        pytest.param("id,label,path\n7,dog,x/2.png\n8,cat,x/1.png\n", id="columns"),
        pytest.param("path;label\nx/2.png;dog\nx/1.png;cat\n", id="semicolons"),
        pytest.param("path\tlabel\nx/2.png\tdog\nx/1.png\tcat\n", id="tabs"),
        pytest.param("path,label\nx\\2.png,dog\nx\\1.png,cat\n", id="backslashes"),
        pytest.param("path,label\nx/2.png,2\nx/1.png,0\n", id="indices"),
        pytest.param("path|label\nx/2.png|dog\nx/1.png|cat\n", id="bars"),
        pytest.param("sep=;\r\npath;label\r\nx/2.png;dog\r\nx/1.png;cat\r\n", id="Excel's sep"),
        pytest.param("path;label;a, b\nx/2.png;dog;\nx/1.png;cat;1, 2\n", id="commas within"),
        pytest.param('path, label\n"x/2.png", dog,\n"x/1.png", cat,,\n', id="trailing commas"),
        pytest.param("path\tlabel\nx/2.png\tdog\nx/1.png\tcat\n".encode("utf-16"), id="UTF-16"),
    ],
)
def test_a_table_of_path_and_label(tmp_path: Path, content: str | bytes) -> None:
    tree(tmp_path, "x/1.png", "x/2.png")
    images = open_labelled(written(tmp_path / "labels.csv", content), PETS)
    assert images.names == ("x/2.png", "x/1.png"), "in the order of the file"
    assert images.truth.tolist() == [2, 0]
    assert images.title == "labels.csv"
    assert [images.read(i).getpixel((0, 0)) for i in range(2)] == [(1, 0, 0), (0, 0, 0)]


def test_paths_are_relative_to_the_table_or_absolute(tmp_path: Path) -> None:
    tree(tmp_path, "img/a, b.png", "img/ü.png")
    far = tmp_path / "img" / "ü.png"
    table = written(
        tmp_path / "csv" / "t.csv", f'path,label\n"../img/a, b.png",cat\n{far},"guinea pig"\n'
    )
    images = open_labelled(table, PETS)
    assert images.truth.tolist() == [0, 1]
    assert images.read(0).size == images.read(1).size == (4, 4)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("", "line 1: no column 'path'; the header holds nothing"),
        ("file,label\n1.png,cat\n", "line 1: no column 'path'; the header holds 'file', 'label'"),
        ("\n1.png,cat\n", "line 2: no column 'path'"),
        ("path,label,Label \n1.png,cat,cat\n", "line 1: the column 'label' stands there twice"),
        ("path,label\n", "lists no image"),
        ("path,label\n1.png,cat\n2.png\n", "line 3: 1 fields, but the header has 2"),
        ("path,label\n1.png,guinea, pig\n", "line 2: 3 fields, .* needs quotes"),
        ("path,label\n1.png,\n", "line 2: the label is empty"),
        ("path,label\n ,cat\n", "line 2: the path is empty"),
        ('path,label\n1.png,"cat\n', "line 2: unexpected end of data"),
        ("path,label\n1.png,cat\n0.png,cat\n.,cat\n", r"2 files are not there: '0.png' \(line 3\)"),
        ("path,label\n1.png,cat\n./1.png,dog\n", r"1 image is listed twice: './1.png' \(lines 2 a"),
        (b"path,label\n1.png,caf\xe9\n", r"line 2: this is not UTF-8 text \(byte 20\); save it as"),
        ("path,label\n1.png,c\n".encode("utf-16le"), "UTF-16 without a mark that says so"),
        ("path,label\nC:\\a\\1.png,cat\n", "relative to .*; those with a drive belong to another"),
        ("path,label\n1.png\0,cat\n", "not there"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str | bytes, wanted: str) -> None:
    tree(tmp_path, "1.png", "2.png")
    with pytest.raises(InputError, match=wanted) as no:
        find_labelled(written(tmp_path / "t.csv", content))
    assert "\n" not in str(no.value)


def test_an_archive_for_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images.tar.gz' is an archive: unpack it \(tar xf, unz"):
        find_labelled(written(tmp_path / "images.tar.gz", b"\x1f\x8b\x08"))


@pytest.mark.parametrize("on_disk", ["cafe\u0301.png", "caf\u00e9.png"])
@pytest.mark.parametrize("in_table", ["cafe\u0301.png", "caf\u00e9.png"])
def test_accents_in_a_table_and_on_disk_may_be_spelled_differently(
    tmp_path: Path, on_disk: str, in_table: str
) -> None:
    tree(tmp_path, on_disk)
    found = find_labelled(written(tmp_path / "t.csv", f"path,label\n{in_table},cat\n"))
    assert found.images.read(0).size == (4, 4)


@pytest.mark.parametrize(
    ("called", "label"),
    [
        ("café", "cafe\u0301"),
        ("jack-o'-lantern", "jack-o’-lantern"),
        ("guinea pig", "guinea\u00a0pig"),
        ("dog", "dog\u200b"),
        ("Straße", "STRASSE"),
    ],
)
def test_a_name_is_the_same_however_its_signs_are_written(called: str, label: str) -> None:
    classes = ClassNames.of_list([called, "else"], "by hand")
    assert indices([label], classes) == [0]
    assert indices([called], ClassNames.of_list([label, "else"], "by hand")) == [0]


def test_a_long_list_of_absent_files_is_cut(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,cat\n" for i in range(25))
    with pytest.raises(InputError, match=r"25 files are not there: .* and 15 more; paths are rel"):
        find_labelled(written(tmp_path / "t.csv", "path,label\n" + rows))


@settings(deadline=None)
@given(junk=st.binary(max_size=80))
def test_no_table_whatever_is_a_crash(
    junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = written(tmp_path_factory.mktemp("junk") / "t.csv", b"path,label\n" + junk)
    with pytest.raises(InputError):
        find_labelled(table)


# --- what the outputs are called -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "cat\nguinea pig\ndog\n"),
        ("c.txt", "\ufeffcat\r\nguinea pig\r\ndog\r\n\r\n"),
        ("c.txt", "cat\rguinea pig\rdog"),
        ("c.csv", "index,name\n1,guinea pig\n0,cat\n2,dog\n"),
        ("c.csv", '0,"cat"\n1,"guinea pig"\n2,"dog"\n'),
        ("c.csv", '"0";"cat"\n"1";"guinea pig"\n"2";"dog"\n'),
        ("c.csv", "id|class\n0|cat\n1|guinea pig\n2|dog\n"),
        ("c.txt", "cat\nguinea pig\ndog\n".encode("utf-16")),
        ("c.tsv", "2\tdog\n0\tcat\n1\tguinea pig\n"),
        ("c.json", '["cat", "guinea pig", "dog"]'),
        ("c.json", '{"1": "guinea pig", "0": "cat", "2": "dog"}'),
        ("c.json", '{"guinea pig": 1, "cat": 0, "dog": 2}'),
        ("c.txt", ' {"guinea pig": 1, "cat": 0, "dog": 2}'),
    ],
)
def test_names_of_outputs_from_a_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    classes, mapping = open_classes(written(tmp_path / name, content), 3)
    assert classes.names == ("cat", "guinea pig", "dog")
    assert classes.synsets == ("", "", "")
    assert classes.source == name
    assert mapping == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.txt", "n02123045 tabby, tabby cat\nn01440764 tench, Tinca tinca\n"),
        ("s.txt", "n02123045\ttabby, tabby cat\nn01440764\ttench, Tinca tinca\n"),
        ("s.txt", "n02123045\nn01440764\n"),
        ("s.csv", "0,n02123045,tabby,tabby cat\n1,n01440764,tench,Tinca tinca\n"),
        ("s.json", '{"0": ["n02123045", "tabby, tabby cat"], "1": "n01440764 tench, Tinca tinca"}'),
    ],
)
def test_synsets_and_synonyms_from_a_file(tmp_path: Path, name: str, content: str) -> None:
    classes, _ = open_classes(written(tmp_path / name, content), 2)
    assert classes.names == ("tabby", "tench")
    assert classes.synsets == ("n02123045", "n01440764")
    labels = ["tabby cat", "n01440764", "tinca-tinca", "n02123045_tabby", "tabby, tabby cat"]
    assert indices(labels, classes) == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("c.txt", "", "is empty"),
        ("c.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("c.txt", "cat\ndog\n", "names 2 classes, but the model has 3 outputs"),
        ("c.txt", "0,cat\n1,pig\ndog\n", "line 3: 'dog' is not an index, a comma and a name"),
        ("c.txt", "1,cat\n2,pig\n3,dog\n", "run up to 3 and leave out 0, .* take 1 from each"),
        ("c.txt", "0,cat\n1,pig\n1,dog\n", "the index 1 is there twice"),
        ("c.txt", "0,cat\n2,dog\n", "no name for 1, but the model's 3 outputs are 0 to 2"),
        ("c.txt", "0,a\n1,b\n2,c\n3,d\n", "names for 3, but the model's 3 outputs are 0 to 2"),
        ("c.txt", "n01440764 a\nn01443537 b\nc\n", "line 3: 'c' does not begin with a synset"),
        ("c.txt", "{0: 'tench',\n 1: 'goldfish'}", "is not JSON"),
        ("c.json", "[]", "holds neither a list of names nor"),
        ("c.json", "3", "holds neither a list of names nor"),
        ("c.json", '["cat", null, "dog"]', "null is no class name"),
        ("c.json", '["cat", " ", "dog"]', '" " is no class name'),
        ("c.json", '{"0": "cat", "0": "pig"}', "given twice: '0'"),
        ("c.json", "[" * 100_000, "is not JSON"),
        ("c.txt", b"caf\xe9\n", "is not UTF-8 text"),
        ("c.csv", "label,class\n", "maps no label"),
        ("c.csv", "label,class\ncat\n", "line 2: 1 fields, but the header has 2"),
        ("c.csv", "label,class\ncat,\n", "line 2: needs a label and a class, got 'cat,'"),
        ("c.csv", "label,class\na,dog\na,cat\n", "line 3: 'a' was given as 'dog' before and is"),
        ("c.csv", "label,class\na,dog\n", "says what labels mean, not what the model's 3 outputs"),
    ],
)
def test_class_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: str | bytes, wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted) as no:
        open_classes(written(tmp_path / name, content), 3)
    assert "\n" not in str(no.value)


@settings(deadline=None)
@given(
    junk=st.text(st.sampled_from(list('ab01n,;\t\r\n "{}[]:')), max_size=30)
    | st.sampled_from(
        [f"{'9' * 4999},a", "[1e999]", '{"a": NaN}', "n01440764", '"', "label,class"]
    ),
    name=st.sampled_from(["c.txt", "c.json", "c.csv"]),
)
def test_no_class_file_whatever_is_a_crash(
    junk: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = written(tmp_path_factory.mktemp("junk") / name, junk)
    for start in ("", "label,class\n", "index,name\n0,"):
        try:
            classes, mapping = open_classes(written(file, start + junk), 2, ["cat", "dog"])
        except InputError:
            continue
        assert len(classes) == 2
        assert mapping or classes.source == name


def test_a_class_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.txt' cannot be read: No such file"):
        open_classes(tmp_path / "no.txt", 3)


@pytest.mark.parametrize("outputs", sorted(IMAGENETS))
def test_imagenet_is_known_by_its_number_of_outputs(outputs: int) -> None:
    classes, mapping = open_classes(None, outputs)
    assert len(classes) == len(set(classes.synsets)) == outputs
    assert mapping == {}
    assert IMAGENETS[outputs] in classes.source
    last = outputs - 1
    assert classes.candidates(classes.synsets[last]) == [last]


@pytest.mark.parametrize("outputs", [1, 10, 999, 1001, 10450])
def test_other_numbers_of_outputs_need_names(outputs: int) -> None:
    with pytest.raises(InputError, match=f"{outputs} outputs are called; give --classes FILE"):
        open_classes(None, outputs)


# --- where nothing names the outputs ---------------------------------------------------------


def test_as_many_class_folders_as_outputs_are_taken_for_them_in_sorted_order(
    tmp_path: Path,
) -> None:
    """As torchvision's ImageFolder numbers them, which most classifiers are trained with."""
    tree(tmp_path, *(f"{name}/{i}.png" for name in ("zebra", "ant", "bee") for i in "ab"))
    classes, mapping = open_classes(None, 3, data=tmp_path)
    assert (classes.names, mapping) == (("ant", "bee", "zebra"), {})
    assert ImageFolder(tmp_path).classes == list(classes.names)
    images = open_labelled(tmp_path, classes)
    assert images.truth.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.remarks() == [
        "nothing names the model's 3 outputs: they are assumed to be the class folders in their "
        "sorted order, 'ant', 'bee', 'zebra'"
    ]


@pytest.mark.parametrize(
    ("folders", "wanted"),
    [
        (["a", "b"], r"give --classes FILE.*; '.*' has 2 class folders"),
        (["train", "val", "test"], "give --classes FILE"),
        (
            ["c1", "c2", "c10"],
            r"torchvision and timm would number .* 'c1', 'c10', 'c2' or 'c1', 'c2'",
        ),
        (
            ["Bee", "ant", "cow"],
            "number them differently: from 'Bee', 'ant', 'cow' or 'ant', 'Bee'",
        ),
    ],
)
def test_an_order_of_class_folders_that_is_not_sure_is_refused(
    tmp_path: Path, folders: list[str], wanted: str
) -> None:
    tree(tmp_path, *(f"{name}/1.png" for name in folders))
    with pytest.raises(InputError, match=wanted):
        open_classes(None, 3, data=tmp_path)


def test_what_names_the_outputs_goes_before_the_folders(tmp_path: Path) -> None:
    tree(tmp_path / "data", *(f"{name}/1.png" for name in ("x", "y", "z")))
    names = written(tmp_path / "c.txt", "cat\nguinea pig\ndog\n")
    assert open_classes(names, 3, data=tmp_path / "data")[0].names == PETS.names
    assert open_classes(None, 3, PETS.names, data=tmp_path / "data")[0].names == PETS.names
    table = written(tmp_path / "t.csv", "path,label\ndata/x/1.png,x\n")
    with pytest.raises(InputError, match="give --classes FILE"):
        open_classes(None, 3, data=table)


def test_an_assumed_order_that_another_fits_far_better_is_suspected() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 40)
    predicted = np.where(rng.random(200) < 0.9, truth, rng.integers(0, 5, 200))
    assert reordered(truth, predicted, 5) == ""
    said = reordered(truth, rng.integers(0, 5, 200), 5)
    assert "shuffled names give 20.0 %: say what the outputs are called with --classes" in said
    assert reordered(truth[::10], rng.integers(0, 5, 20), 5) == "", "too few images to say"
    weak = np.where(rng.random(200) < 0.2, truth, rng.integers(0, 5, 200))
    assert reordered(truth, weak, 5) == "", "36 % are beyond chance"
    assert reordered(np.arange(5), np.arange(5)[::-1], 5) == "", "too few images to say"
    swapped = np.array([1, 0, 2, 3, 4])
    said = reordered(truth, swapped[predicted], 5)
    right, best = np.mean(truth == swapped[predicted]), np.mean(truth == predicted)
    assert said.startswith(f"{100 * best:.1f} % of the predictions would be correct if the outputs")
    assert f"was assumed, it is {100 * right:.1f} %: say what they are called with --cl" in said


def test_names_that_the_weights_bring() -> None:
    classes = ClassNames.of_outputs(3, PETS.names)
    assert classes.names == PETS.names
    with pytest.raises(InputError, match="the weights name 3 classes, but the model has 4 outputs"):
        ClassNames.of_outputs(4, PETS.names)


def test_torchvisions_categories_get_synsets_and_synonyms() -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    classes = ClassNames.of_outputs(1000, CATEGORIES)
    assert classes.names == tuple(CATEGORIES)
    assert indices(["n01440764", "Tinca tinca", "crane bird", "lifting_crane"], classes) == [
        0,
        0,
        134,
        517,
    ]
    clear = [name for name in CATEGORIES if len(classes.candidates(name)) == 1]
    assert all(CATEGORIES[classes.candidates(name)[0]] == name for name in clear)
    assert len(clear) > 980


def test_a_thousand_other_classes_are_not_taken_for_imagenet() -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    other = ClassNames.of_outputs(1000, [f"person {i}" for i in range(1000)])
    assert set(other.synsets) == {""}
    turned = ClassNames.of_outputs(1000, CATEGORIES[::-1])
    assert set(turned.synsets) == {""}
    assert indices(["tench"], turned) == [999]
    by_synset = ClassNames.of_outputs(1000, IMAGENET.synsets[::-1])
    assert by_synset.synsets == IMAGENET.synsets[::-1]


def test_a_file_of_imagenets_names_keeps_its_spelling_and_gets_synsets(tmp_path: Path) -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    classes, _ = open_classes(written(tmp_path / "c.txt", "\n".join(CATEGORIES)), 1000)
    assert indices(["crane", "crane bird", "n02012849", "missile"], classes) == [517, 134, 134, 657]


# --- mappings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "label,class\nbird,n02012849\nfish,tench\nTinca,0\n"),
        ("m.csv", "\ufeffLabel;Class\r\nbird;n02012849\r\n\r\nfish;tench\r\nTinca;0\r\n"),
        ("m.json", '{"bird": "n02012849", "fish": "tench", "Tinca": 0}'),
        ("m.json", '{"bird": 134, "fish": 0, "Tinca": 0}'),
    ],
)
def test_a_mapping_says_what_labels_mean(tmp_path: Path, name: str, content: str) -> None:
    classes, mapping = open_classes(written(tmp_path / name, content), 1000)
    matched = match_classes(["bird", "fish", "Tinca", "goldfish"], classes, mapping)
    assert matched.index == {"bird": 134, "fish": 0, "Tinca": 0, "goldfish": 1}
    assert matched.unused == ()


def test_numbers_of_another_data_set_can_be_mapped(tmp_path: Path) -> None:
    """Ten folders 0 … 9 of ImageNet's classes, as they are in a small copy of it."""
    file = written(tmp_path / "m.json", json.dumps({"0": "tench", "1": "cassette player"}))
    classes, mapping = open_classes(file, 1000)
    assert indices(["1", "0"], classes, **mapping) == [482, 0]


def test_a_mapping_of_numbers_to_numbers_is_no_list_of_names(tmp_path: Path) -> None:
    file = written(tmp_path / "m.json", '{"0": 1, "1": 0}')
    classes, mapping = open_classes(file, 2, ["cat", "dog"])
    assert classes.names == ("cat", "dog")
    assert indices(["0", "1"], classes, **mapping) == [1, 0]


def test_a_mapping_goes_before_the_name_and_may_hold_more() -> None:
    matched = match_classes(["cat", " dog"], PETS, {"cat": "guinea_pig", "dog": "cat", "cow": "1"})
    assert matched.index == {"cat": 1, " dog": 0}
    assert matched.unused == ("cow",)


def test_what_a_mapping_gives_must_match_as_well() -> None:
    with pytest.raises(InputError, match=r"1 of 2 labels match no .*: 'a' → 'dgo'; near 'a'"):
        match_classes(["a", "cat"], PETS, {"a": "dgo"})


# --- labels and outputs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("tench", 0),
        ("Tench", 0),
        ("tench, Tinca tinca", 0),
        ("TINCA_TINCA", 0),
        ("n01440764", 0),
        ("n01440764_tench", 0),
        ("n01440764-tench", 0),
        ("0", 0),
        ("007", 7),
        ("999", 999),
        ("Great_White_Shark", 2),
        ("black-footed_ferret", 359),
        (" tiger  cat ", 282),
        ("carpenters kit", 477),
        ("maillot, tank suit", 639),
        ("n02012849", 134),
        ("n03126707_crane", 517),
        ("lifting crane", 517),
    ],
)
def test_labels_of_imagenet(label: str, index: int) -> None:
    assert indices([label], IMAGENET) == [index]


@pytest.mark.parametrize("name", ["crane", "Crane", "maillot", "missile", "cardigan", "panda"])
def test_names_of_two_classes_are_an_error_with_the_remedy(name: str) -> None:
    with pytest.raises(InputError) as no:
        match_classes(["tench", name], IMAGENET)
    said = str(no.value)
    assert f"labels that may mean several outputs: {name!r}: " in said
    for index in IMAGENET.candidates(name):
        assert IMAGENET.describe(index) in said
    assert "; use their synsets or indices as labels, or say what they mean with --classes" in said
    fixed = IMAGENET.synsets[IMAGENET.candidates(name)[1]]
    assert indices([name], IMAGENET, **{name: fixed}) == [IMAGENET.candidates(name)[1]]


def test_both_cranes_are_named() -> None:
    with pytest.raises(InputError, match=r"134 crane bird \(n02012849\), 517 lifting crane \("):
        match_classes(["crane"], IMAGENET)


def test_where_each_class_has_one_name_its_spelling_decides() -> None:
    classes = ClassNames.of_list(["Turkey", "turkey", "C", "C++", "dog", "dog"], "c.txt")
    assert indices(["turkey", "Turkey", "C++", "C", "c++"], classes) == [1, 0, 3, 2, 3]
    for label in ("TURKEY", "dog"):
        with pytest.raises(InputError, match=r"several outputs.*; use their indices as labels"):
            match_classes([label], classes)


def test_labels_without_an_output_are_all_in_one_error() -> None:
    labels = ["cat", "dgo", *(f"bird {i}" for i in range(14))]
    with pytest.raises(InputError) as no:
        match_classes([*labels, "dgo"], PETS)
    said = str(no.value)
    assert said.startswith(
        "15 of 16 labels match no output of the model (3 classes, pets.txt): 'dgo', 'bird 0', "
    )
    assert "'bird 8' and 5 more; near 'dgo': 2 dog; rename them, or say what they mean" in said
    assert "--classes FILE, a CSV with the header label,class" in said
    assert "bird 9" not in said


def test_unknown_and_ambiguous_labels_are_told_together() -> None:
    with pytest.raises(InputError, match=r"1 of 3 labels match .*'xx'.*several outputs: 'crane'"):
        match_classes(["xx", "crane", "tench"], IMAGENET)


@pytest.mark.parametrize("label", ["", " ", "-", "-1", "1.5", "3", "1000000000000", "n01440764"])
def test_labels_that_match_nothing(label: str) -> None:
    with pytest.raises(InputError, match="1 of 2 labels match no output"):
        match_classes([label, "cat"], PETS)


def test_a_synset_outside_the_model_is_not_matched_by_its_name() -> None:
    with pytest.raises(InputError, match="near 'n99999999_tench': 0 tench"):
        match_classes(["n99999999_tench"], IMAGENET)
    with pytest.raises(InputError, match="the names of the outputs come without synsets"):
        match_classes(["n02123045"], PETS)
    assert indices(["n02121808_cat"], PETS) == [0]


# --- numbers as labels -----------------------------------------------------------------------


def test_numbers_that_start_at_0_are_indices() -> None:
    assert indices(["2", "0", "1"]) == [2, 0, 1]
    assert indices(["1", "2"]) == [1, 2]
    assert indices(["1", "dog"]) == [1, 2]


@pytest.mark.parametrize("labels", [["1", "2", "3"], ["3"], ["3", "1"]])
def test_numbers_that_start_at_1_are_an_error(labels: list[str]) -> None:
    with pytest.raises(InputError, match="off by one: the model's 3 outputs are counted from 0 to"):
        match_classes(labels, PETS)


@pytest.mark.parametrize("labels", [["0", "3"], ["4"], ["1", "17"]])
def test_numbers_beyond_the_outputs_are_an_error(labels: list[str]) -> None:
    with pytest.raises(InputError, match=r"match no output .*\(outputs are counted from 0 to 2\)"):
        match_classes(labels, PETS)


def test_where_numbers_are_names_they_are_no_indices() -> None:
    digits = ClassNames.of_list([str(i) for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)], "svhn.txt")
    assert indices(["0", "1", "9"], digits) == [9, 0, 8]
    with pytest.raises(InputError, match="match no output"):
        match_classes(["10"], digits)
    for label in ("-1", "1.0", "+1"):
        with pytest.raises(InputError, match="match no output"):
            match_classes([label], digits)


def test_a_number_that_is_no_name_is_no_index_either() -> None:
    digits = ClassNames.of_list(["1", "2", "3"], "c.txt")
    assert indices(["3", "1"], digits) == [2, 0]
    with pytest.raises(InputError, match="match no output"):
        match_classes(["0", "1"], digits)


def test_letters_are_the_same_however_they_are_composed() -> None:
    classes = ClassNames.of_list(["caf\u00e9", "th\u00e9"], "c.txt")
    assert indices(["cafe\u0301", "THE\u0301"], classes) == [0, 1]


@given(
    st.lists(
        st.text(st.characters(categories=["L", "N", "Zs", "P"]), min_size=1, max_size=9),
        min_size=1,
        max_size=9,
    )
)
def test_every_class_is_matched_by_its_own_name_or_said_to_be_ambiguous(names: list[str]) -> None:
    assume(all(fold(name) for name in names))
    classes = ClassNames.of_list(names, "c.txt")
    for index, name in enumerate(names):
        assert index in classes.candidates(name) or fold(name) != fold(" ".join(name.split()))
        assert len(classes.candidates(name)) <= sum(fold(each) == fold(name) for each in names) or (
            any(", " in each for each in names)
        )


@given(st.integers(1, 30), st.data())
def test_indices_stand_for_themselves(count: int, data: st.DataObject) -> None:
    classes = ClassNames.of_list([f"class {chr(65 + i)}" for i in range(count)], "c.txt")
    wanted = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    labels = [str(index) for index in wanted]
    assert indices(labels, classes) == wanted


# --- numbered differently --------------------------------------------------------------------


def predictions(truth: np.ndarray, accuracy: float, classes: int, seed: int = 0) -> np.ndarray:
    dice = np.random.default_rng(seed)
    wrong = dice.integers(0, classes, truth.size)
    return np.where(dice.random(truth.size) < accuracy, truth, wrong)


@pytest.mark.parametrize("accuracy", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("shift", [1, -1])
def test_labels_that_are_off_by_one_are_noticed(shift: int, accuracy: float) -> None:
    right = np.arange(1, 900)
    said = suspicious(right - shift, predictions(right, accuracy, 1000), 1001)
    assert f"if the labels were one {'higher' if shift == 1 else 'lower'}" in said
    assert "numbered differently" in said


def test_the_sentence_gives_both_shares() -> None:
    truth = np.repeat(np.arange(5), 4)
    predicted = truth + 1
    predicted[0] = 0
    assert suspicious(truth, predicted, 6) == (
        "95.0 % of the predictions would be correct if the labels were one higher (does the model "
        "have a background class first?); with the labels as given it is 5.0 %: labels and "
        "outputs seem to be numbered differently"
    )


def test_folders_that_were_sorted_as_text_are_noticed() -> None:
    """Folders 0, 1, 10, 11, …, 2: the output 2 of such a model means the folder 10."""
    folders = sorted(map(str, range(100)))
    output = np.array([folders.index(str(i)) for i in range(100)])
    truth = np.repeat(np.arange(100), 2)
    assert "sorted as text" in suspicious(truth, predictions(output[truth], 0.8, 100), 100)
    assert suspicious(truth, predictions(truth, 0.8, 100), 100) == ""


def test_one_class_taken_for_its_neighbour_is_an_error_of_the_model() -> None:
    truth = np.repeat(np.arange(10), 20)
    for confused in ([4], [4, 7], [3, 4, 5]):
        assert suspicious(truth, np.where(np.isin(truth, confused), truth + 1, truth), 11) == ""
    alone = np.full(50, 3)
    assert suspicious(alone, alone + 1, 10) == ""


def test_labels_that_fit_a_third_of_the_images_as_they_stand_are_not_suspected() -> None:
    truth = np.concatenate([np.repeat(np.arange(60), 2), np.repeat(np.arange(60, 63), 20)])
    predicted = np.where(truth < 60, truth + 1, truth)
    assert suspicious(truth, predicted, 63) == ""


@pytest.mark.parametrize("classes", [4, 10, 1000])
def test_misclassified_images_alone_are_no_sign_of_other_numbers(classes: int) -> None:
    for seed in range(20):
        dice = np.random.default_rng(seed)
        truth = dice.integers(0, classes, 2000)
        # Every other class is as likely.
        wrong = (truth + dice.integers(1, classes, 2000)) % classes
        assert suspicious(truth, wrong, classes) == ""
    # Of numbers off by one, most images are right one further; the rest are these.
    right = truth < classes - 1
    assert "one higher" in suspicious(truth[right], truth[right] + 1, classes)


def test_neighbours_that_look_alike_are_no_sign_of_other_numbers() -> None:
    dice = np.random.default_rng(0)
    truth = dice.integers(1, 999, 2000)
    # A third of the mistakes is the breed before or after: a hundred times what chance hits.
    near = truth + dice.choice([-1, 1], 2000)
    wrong = np.where(dice.random(2000) < 1 / 3, near, (truth + dice.integers(2, 900, 2000)) % 1000)
    assert suspicious(truth, wrong, 1000) == ""


@pytest.mark.parametrize("images", [0, 1, 5])
def test_few_images_say_nothing(images: int) -> None:
    truth = np.arange(images)
    assert suspicious(truth, truth + 1, 10) == ""


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.integers(1, 300), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_model_that_guesses_or_knows_raises_no_suspicion(
    classes: int, images: int, accuracy: float, seed: int
) -> None:
    truth = np.random.default_rng(seed).integers(0, classes, images)
    assume(accuracy == 0 or accuracy > 0.05)
    assert suspicious(truth, predictions(truth, accuracy, classes, seed), classes) == ""


# --- real photographs ------------------------------------------------------------------------


def test_the_public_sample_of_imagenet_matches_by_name_and_by_synset(tmp_path: Path) -> None:
    sample = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
    files = sorted(sample.glob("n*.jpg"))
    if len(files) != 1000:
        pytest.skip("the sample of ImageNet is not here")
    rows = "".join(f"{file},{file.stem}\n" for file in files)
    images = open_labelled(written(tmp_path / "t.csv", "path,label\n" + rows), IMAGENET)
    assert images.truth.tolist() == list(range(1000))
    assert isinstance(images, LabelledImages)
    names = [file.stem.partition("_")[2] for file in files]
    for index, name in enumerate(names):
        assert index in IMAGENET.candidates(name)
    assert sum(len(IMAGENET.candidates(name)) > 1 for name in names) < 20
