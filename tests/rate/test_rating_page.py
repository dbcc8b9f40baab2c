"""The rating page as a rater uses it: a real server process, and headless Chromium."""

import csv
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import opened
from command import Command
from forks import Forks
from rated_runs import make_run
from rating_server import IDLE, Server, at_page, serving

from profiler.errors import InputError
from profiler.rate.book import RatingBook
from profiler.rate.server.session import Session

UNITS = {"conv": 30, "fc": 40}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated") / "run"
    rng = np.random.default_rng(0)
    make_run(folder, {name: rng.random(units).tolist() for name, units in UNITS.items()})
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of the run, as on another machine."""
    import shutil

    return Path(shutil.copytree(original, tmp_path / "copy"))


# --- the session, without a network -------------------------------------------------------------


def test_everyone_gets_the_same_questions_and_takes_up_where_he_stopped(folder: Path) -> None:
    session = Session(RatingBook(folder), per_layer=10, seed=4)
    assert len(session.questions) == 20
    first = session.state("anna")["question"]["number"]
    state = session.rate("anna", first, "maybe")
    assert state["done"] == 1
    assert state["last"]["answer"] == "maybe"
    again = Session(RatingBook(folder), per_layer=10, seed=4)
    assert again.state("anna")["question"] == state["question"]
    assert again.state("ben")["question"]["number"] == first
    assert [question.unit for question in again.questions] == [q.unit for q in session.questions]
    assert again.raters() == [{"name": "anna", "done": 1}]


def test_an_answer_sent_twice_is_kept_once_and_undo_too(folder: Path) -> None:
    session = Session(RatingBook(folder), per_layer=3)
    session.rate("anna", 0, "yes")
    session.rate("anna", 0, "no")
    session.rate("anna", 1, "skip")
    assert session.state("anna")["tally"] == {"yes": 1, "skip": 1}
    session.undo("anna", 1)
    state = session.undo("anna", 1)
    assert (state["done"], state["question"]["number"]) == (1, 1)
    assert session.undo("anna", 0)["last"] is None
    for number, answer in ((99, "yes"), (-1, "yes"), (0, "perhaps")):
        with pytest.raises(InputError):
            session.rate("anna", number, answer)


def test_blind_questions_say_neither_score_nor_layer(folder: Path) -> None:
    open_, blind = (Session(RatingBook(folder), blind=blind) for blind in (False, True))
    assert set(open_.state("a")["question"]) - set(blind.state("a")["question"]) == {
        "layer", "unit", "score",
    }  # fmt: skip
    assert "fc" not in json.dumps(blind.state("a"))


def test_guidelines_follow_the_number_of_images(folder: Path) -> None:
    session = Session(RatingBook(folder))
    assert session.guidelines() == {"shown": 10, "from": 3, "to": 6}


def test_a_run_without_pictures_cannot_be_rated(folder: Path) -> None:
    for picture in (folder / "images").iterdir():
        picture.unlink()
    with pytest.raises(InputError, match="images/ is empty or missing"):
        Session(RatingBook(folder))


# --- who may ask ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(
    forks: Forks, original: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    import shutil

    copy = Path(shutil.copytree(original, tmp_path_factory.mktemp("served") / "run"))
    with serving(forks, copy, "--rater", "anna", "--per-layer", 1, "--seed", 3) as found:
        found.images = Session(RatingBook(copy), per_layer=1, seed=3).image_ids
        yield found


def test_it_listens_on_the_loopback_address_only(server: Server) -> None:
    lines = Path("/proc/net/tcp").read_text().splitlines() if Path("/proc/net/tcp").exists() else []
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    own = [place for place in listening if int(place.split(":")[1], 16) == server.port]
    if lines:
        assert own == [f"0100007F:{server.port:04X}"]
    with socket.socket() as other:
        other.settimeout(5)
        # 127.0.0.2 is this machine as well, and would answer if every address were listened on.
        assert other.connect_ex(("127.0.0.2", server.port)) != 0


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8717",
        "127.0.0.1.evil.example",
        "[::1]",
        "0.0.0.0",
        "localhost:80:80",
    ],
)
def test_other_hosts_are_refused(server: Server, host: str) -> None:
    """DNS rebinding: a foreign name that resolves to this machine."""
    for path in ("/", "/api/start", f"/?key={server.key}", server.image, "/page.js"):
        assert server.ask("GET", path, host=host)[0] == 403
    assert server.ask("GET", "/api/start", host=f"localhost:{server.port}")[0] == 200


def post(server: Server, **changes: Any) -> int:
    """A post as the page sends it, but for the changes."""
    headers = {
        "Origin": f"http://127.0.0.1:{server.port}",
        "Sec_Fetch_Site": "same-origin",
        "Content_Type": "application/json",
        "X_Profiler_Token": server.start()["token"],
    }
    cookie = changes.pop("cookie", True)
    headers = {k: v for k, v in {**headers, **changes}.items() if v is not None}
    body = {"rater": "eve", "number": 1, "answer": "yes"}
    status, content, _ = server.ask("POST", "/api/rate", body, cookie=cookie, **headers)
    if status == 200:
        done = json.loads(content)["done"]
        server.ask("POST", "/api/undo", {"rater": "eve", "number": 1}, **headers)
        assert done == 1
    return status


@pytest.mark.parametrize(
    "changes",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"X_Profiler_Token": "guess"},
        {"X_Profiler_Token": None},
        {"Content_Type": "text/plain"},
        {"cookie": False},
    ],
)
def test_posts_that_are_not_the_pages_are_refused(server: Server, changes: dict[str, Any]) -> None:
    assert post(server) == 200
    assert post(server, **changes) == 403
    assert {"name": "eve", "done": 1} not in server.start()["raters"]


def test_nobody_without_the_key_sees_anything(server: Server) -> None:
    for path in ("/", "/api/start", server.image, "/api/state?rater=a", "/page.js"):
        assert server.ask("GET", path, cookie=False)[0] == 403
    assert server.ask("GET", "/?key=wrong", cookie=False)[0] == 403
    status, _, headers = server.ask("GET", f"/?key={server.key}", cookie=False)
    assert status == 303
    assert "HttpOnly" in headers["set-cookie"]
    assert headers["location"] == "/"
    # What another site's page embeds comes without permission, cookie or not.
    assert server.ask("GET", server.image, Sec_Fetch_Site="cross-site")[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/image/../run.json", "/image/000000.webp", "/image/0/../../run.json", "/image/999999",
     "/image/-1", "/run.json", "/ratings.csv", "/images/000000.webp", "/%2e%2e/%2e%2e/etc/passwd",
     "/page.js/../server.py", "//etc/passwd", "/image/0%00"],
)  # fmt: skip
def test_no_file_is_served_by_name(server: Server, path: str) -> None:
    assert server.ask("GET", path)[0] in (404, 405)
    assert server.ask("GET", server.image)[0] == 200


def test_only_images_of_asked_units_are_served(server: Server) -> None:
    assert 0 < len(server.images) < 40
    for image in range(40):
        assert (server.ask("GET", f"/image/{image}")[0] == 200) == (image in server.images)


def test_pages_carry_their_locks(server: Server) -> None:
    _, _, headers = server.ask("GET", "/")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_bad_answers_are_named(server: Server) -> None:
    headers = {
        "Origin": f"http://127.0.0.1:{server.port}",
        "Content_Type": "application/json",
        "X_Profiler_Token": server.start()["token"],
    }
    for body in (
        {}, [1], {"rater": "a", "number": 0}, {"rater": "a", "number": "0", "answer": "yes"},
        {"rater": "a", "number": 10**6, "answer": "yes"},
        {"rater": "<b>", "number": 0, "answer": "yes"},
    ):  # fmt: skip
        status, content, _ = server.ask("POST", "/api/rate", body, **headers)
        assert status == 400
        assert json.loads(content)["error"]
    status, _, _ = server.ask("POST", "/api/rate", {"rater": "a" * 20_000}, **headers)
    assert status == 403


def test_a_second_server_for_the_same_run_is_refused(command: Command, server: Server) -> None:
    done = command("rate", server.start()["folder"], "--no-browser", "--port", 0)
    assert done.status == 3
    assert "another `profiler rate` has this run open" in done.error


def test_a_port_that_is_taken(command: Command, server: Server, folder: Path) -> None:
    done = command("rate", folder, "--no-browser", "--port", server.port)
    assert done.status == 3
    assert done.error.startswith(f"cannot listen on 127.0.0.1:{server.port}: ")


# --- in the browser ------------------------------------------------------------------------------


def on_disk(folder: Path) -> list[dict[str, str]]:
    with (folder / "ratings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.browser
def test_thirty_units_by_keyboard_with_everything_that_happens(
    browser: Any, forks: Forks, folder: Path
) -> None:
    """Reload in the middle, undo, a second rater, and a server killed after the 17th rating."""
    keys = ["y", "m", "n", "s", "Y"] * 6
    with (
        serving(forks, folder, "--per-layer", 15) as first,
        at_page(browser, first.address) as anna,
    ):
        anna.enter("Anna")
        assert "key=" not in anna.page.url
        anna.press(*keys[:8])
        assert (anna.done, len(on_disk(folder))) == (8, 8)
        anna.page.reload()
        anna.ready()
        assert anna.done == 8
        before = anna.question
        anna.press("y", "u")
        assert (anna.done, anna.question) == (8, before)
        anna.press(*keys[8:17])
        assert anna.done == 17
        question = anna.question
        assert len(RatingBook(folder).ratings) == 17, "on the disk before the next unit appears"
        first.kill()
        anna.press("y")
        assert "The server does not answer" in anna.page.inner_text("#trouble")
        assert (anna.done, anna.question) == (17, question), "no unit is passed over"
        assert all("ERR_CONNECTION_REFUSED" in text for text in anna.view.complaints)
    # The second server is a blind one.
    with (
        serving(forks, folder, "--per-layer", 15, "--blind", "--rater", "Cleo") as second,
        at_page(browser, second.address) as anna,
    ):
        anna.ready()
        anna.page.goto(second.address.split("?")[0])
        anna.ready()
        assert anna.page.inner_text("#who") == "Cleo", "the name given with the command"
        assert anna.question[1] == ""
        text = anna.page.inner_text("body")
        assert "score" not in text
        assert "conv" not in text
        anna.page.goto(second.address.split("?")[0] + "#rater=Anna")
        anna.page.reload()
        anna.ready()
        assert anna.done == 17
        assert anna.question[0] == question[0], "the same sample, and where she stopped"
        anna.press(*keys[17:])
        assert anna.page.inner_text("#sum").endswith(
            "you answered 30 questions: 12 × yes, 6 × maybe, 6 × no, 6 × skip."
        )
        anna.page.keyboard.press("u")
        anna.page.wait_for_selector(IDLE)  # the end stays in sight until the server has answered
        assert anna.done == 29
        anna.press("n")
        assert anna.view.complaints == []
        anna.page.get_by_role("button", name="Somebody else rates").click()
        anna.page.wait_for_selector("#welcome:not([hidden])")
        assert anna.page.inner_text("#known") == "Anna 30 of 30"
        anna.enter("Ben")
        anna.press("n", "n")
        assert anna.done == 2
        assert {urlsplit(url).hostname for url in anna.view.requests} == {"127.0.0.1"}
        done = second.end(signal.SIGINT)  # Ctrl-C
        assert done.status == 0
        assert done.stderr.rstrip().endswith(f"next: profiler calibrate {folder}")
    book = RatingBook(folder)
    by_rater = {name: [r for r in book.ratings if r.rater == name] for name in ("Anna", "Ben")}
    assert [len(found) for found in by_rater.values()] == [30, 2]
    assert len({rating.about for rating in by_rater["Anna"]}) == 30
    assert [rating.about for rating in by_rater["Ben"]] == [
        rating.about for rating in by_rater["Anna"][:2]
    ]
    wanted = [{"y": 1.0, "m": 0.5, "n": 0.0, "s": None}[key.lower()] for key in keys]
    assert [rating.value for rating in by_rater["Anna"]] == [*wanted[:-1], 0.0]
    session = Session(book, per_layer=15)
    assert [r.about for r in by_rater["Anna"]] == [q.unit for q in session.questions]
    assert sorted(r.layer for r in by_rater["Anna"]) == ["conv"] * 15 + ["fc"] * 15


@pytest.mark.browser
def test_what_a_rater_sees(browser: Any, server: Server) -> None:
    with at_page(browser, server.address + "#rater=cleo") as rater:
        rater.page.goto(server.address.split("?")[0] + "#rater=cleo")
        rater.page.reload()
        rater.ready()
        page = rater.page
        images = page.locator("#images img")
        assert images.count() == 10
        assert page.evaluate(
            "[...document.images].every((i) => i.complete && i.naturalWidth > 0 && i.alt)"
        )
        word, place = rater.question
        session = Session(RatingBook(Path(server.start()["folder"])), per_layer=1, seed=3)
        question = session.questions[0]
        assert word == question.description
        assert place == f"Unit {question.unit[1]} of {question.unit[0]}, score {question.score:.3f}"
        shown = [
            int(url.rsplit("/", 1)[1]) for url in images.evaluate_all("(a) => a.map((i) => i.src)")
        ]
        assert tuple(shown) == question.images
        guidelines = page.inner_text(".guidelines")
        assert "7 to 10 of the ten images" in guidelines
        assert "3 to 6" in guidelines
        # A mouse works as well; keys held down or meant for the browser answer nothing.
        page.get_by_role("button", name="Maybe").click()
        rater.ready()
        assert rater.done == 1
        page.keyboard.press("Control+y")
        page.evaluate(
            "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'y', repeat: true}))"
        )
        page.wait_for_timeout(150)
        assert rater.done == 1
        assert rater.view.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 400, 730, 1100, 1400])
def test_the_page_fits_and_can_be_read(browser: Any, server: Server, width: int) -> None:
    for dark in (False, True) if width in (400, 1400) else (False,):
        with at_page(browser, server.address, width=width, dark=dark) as rater:
            rater.ready()
            assert rater.view.sideways == 0
            weak = [text for text in rater.view.weak_text() if not text.startswith("only ")]
            assert weak == []
            if width >= 1100:  # everything a rater needs is in view without scrolling
                box = rater.page.locator("#last").bounding_box()
                assert box["y"] + box["height"] <= 900


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_the_calibration_page(
    browser: Any, command: Command, folder: Path, width: int, dark: bool
) -> None:
    book = RatingBook(folder)
    layers = {layer.layer: layer.score[:, 0] for layer in book.run.layers}
    for name, unit in book.units:
        book.add("anna", (name, unit), float(layers[name][unit] > 0.4))
        book.add("ben", (name, unit), float(layers[name][unit] > 0.45))
    done = command("calibrate", folder, "--isotonic")
    assert done.stdout.strip() == str(folder / "calibration.html"), done.stderr
    with opened(browser, folder / "calibration.html", width=width, dark=dark) as view:
        chart = view.page.locator("#curve svg.histogram")
        place = {
            name: chart.locator(name).bounding_box()
            for name in ("rect.span", "line.tau", "path.curve", "path.band")
        }
        tau = place["line.tau"]["x"]
        assert place["rect.span"]["width"] > 3
        assert place["rect.span"]["x"] <= tau
        assert tau <= place["rect.span"]["x"] + place["rect.span"]["width"]
        assert place["path.band"]["height"] >= place["path.curve"]["height"] > 5
        assert view.page.locator("#by-layer tbody tr").count() == len(UNITS)
        assert view.page.locator("#expected circle.dot").count() > 5
        assert view.sideways == 0
        assert view.weak_text() == []
        assert view.complaints == []
        assert view.strange_requests == []
