"""The report as one HTML file: whole, escaped, offline; in a real browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from past_runs import cell, write_run
from PIL import Image

from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.comparison.recorded import read_runs
from ssl_lightning.evaluation.page.curves import thinned
from ssl_lightning.evaluation.page.page import page
from ssl_lightning.evaluation.page.pictures import SOUND, Room

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'&\n\x1b[31m"
FETCHING = ("src", "href", "action", "poster", "srcset", "data")


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def points(count: int = 40, hostile: str = "name", **changes) -> dict:
    """A map as a run keeps it."""
    random = np.random.default_rng(0)
    across, rows = 32, -(-count // 32)
    view = {
        "title": "pretrained encoder",
        "how": "t-SNE",
        "points": random.random((count, 2)).round(4).tolist(),
        "neighbours": random.integers(0, count, (count, 5)).tolist(),
    }
    return {
        "names": [f"{hostile} {number}" for number in range(count)],
        "maps": [view, view | {"title": "untrained encoder"}],
        "labels": [number % 3 for number in range(count)],
        "classes": {"0": hostile, "1": "one", "2": "two"},
        "tiles": {
            "jpeg": base64.b64encode(picture(8 * across, 6 * rows, "JPEG")).decode(),
            "width": 8, "height": 6, "across": across,
        },
    } | changes  # fmt: skip


def full(folder: Path, hostile: str = "name", **settings) -> Path:
    """A run folder with all that a report shows."""
    cells = {
        "pretrained/knn_10": cell(0.5, 0.52, 0.54),
        "raw/knn_10": cell(0.4, 0.42, 0.44),
        f"{hostile.replace('/', '')}/pretrained/knn_10": cell(0.1, 0.2, 0.3),
    }
    write_run(folder, cells=cells, note=hostile, **settings)
    (folder / "plots").mkdir()
    (folder / "plots" / "views.png").write_bytes(picture(60, 40))
    (folder / "plots" / "loss.png").write_bytes(picture(61, 41))
    (folder / "plots" / "embedding.png").write_bytes(picture(62, 42))
    (folder / "plots" / "embedding.json").write_text(json.dumps(points(hostile=hostile)))
    soundfile.write(folder / "plots" / "original.wav", np.zeros(800), 8000)
    rows = [
        {"labels": n, "row": row, "mean": 0.5 + n / 100, "std": 0.01}
        for n in (1, 10)
        for row in ("pretrained", hostile)
    ]
    (folder / "labels-digits.json").write_text(json.dumps({"rows": rows, "sentence": hostile}))
    (folder / "plots" / "health.png").write_bytes(picture(63, 43))
    (folder / "alarms.txt").write_text(f"{hostile} is low\n".replace("\n", " ") + "\n" + 9 * "other\n")
    lines = [f"{step},{3 - step / 50},{0.5 + step / 400},{step % 7}" for step in range(1, 101)]
    (folder / "metrics.csv").write_text("\n".join(["step,train/loss,probe/knn/top1,collapse/rank", *lines, ""]))
    return folder


class Elements(HTMLParser):
    """The elements of a page: each name with its attributes; the text of headings and cells."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.said = ""
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.said += data


def test_a_report_holds_every_part_and_its_elements_are_closed(tmp_path):
    runs = read_runs([str(full(tmp_path / "a", temperature=0.2)), str(full(tmp_path / "b", temperature=0.5))], 1)
    content, left_out = page(runs)
    elements = Elements(content)
    assert elements.open == [] and left_out == []
    keys = {attributes.get("id") for tag, attributes in elements.found if tag == "section"}
    links = {attributes["href"] for tag, attributes in elements.found if tag == "a"}
    wanted = "runs settings tables labels curves pictures maps neighbours health last"
    assert keys == set(wanted.split()) and links == {f"#{key}" for key in keys}
    kinds = [tag for tag, _ in elements.found]
    assert kinds.count("audio") == 2 and kinds.count("img") == 4  # views, health: loss and map are drawn by the page
    assert "name is low" in elements.said and "5 further alarms" in elements.said
    assert "temperature" in elements.said and "52.0 ± 2.0" in elements.said and "raw features" in elements.said
    assert "+0.0 ± " in elements.said and "no clear difference" in elements.said


def test_nothing_is_fetched_and_nothing_that_a_run_holds_is_an_element(tmp_path):
    clean = page(read_runs([str(full(tmp_path / "a", "x"))], 1))[0]
    hostile = page(read_runs([str(full(tmp_path / "b", HOSTILE))], 1))[0]
    for content in (clean, hostile):
        for tag, attributes in Elements(content).found:
            addresses = [value for name, value in attributes.items() if name in FETCHING]
            assert all(each.startswith(("data:", "#")) for each in addresses), tag
            assert "url(" not in attributes.get("style", "")
        styles = "".join(re.findall("<style>(.*?)</style>", content, re.DOTALL))
        assert not re.findall(r"url\((?!data:)|@import", styles)
        script = content.partition('"use strict"')[2]
        assert not re.findall("fetch|XMLHttp|import|eval|innerHTML|insertAdjacent|://", script)
    kinds = [tag for tag, _ in Elements(clean).found]
    assert [tag for tag, _ in Elements(hostile).found] == kinds
    names = {name for _, attributes in Elements(hostile).found for name in attributes}
    assert not {name for name in names if name.startswith("on")} and "\x1b" not in hostile


@pytest.mark.parametrize(
    "change",
    [
        {"maps": []},
        {"maps": None},
        {"names": ["one"]},
        {"labels": [7] * 40},
        {"tiles": {"jpeg": "AAAA", "width": 8, "height": 6, "across": 32}},
        {"tiles": {"jpeg": base64.b64encode(picture(8, 8, "JPEG")).decode(), "width": 8, "height": 6, "across": 32}},
        {"maps": [{"title": "a", "how": "b", "points": [[0, 2]] * 40, "neighbours": [[0]] * 40}]},
        {"maps": [{"title": "a", "how": "b", "points": [[0, 1]] * 40, "neighbours": [[40]] * 40}]},
        {"maps": [{"title": "a", "how": "b", "points": [[0, None]] * 40, "neighbours": [[0]] * 40}]},
        {"maps": [{"title": "a", "how": "b", "points": [[0, 1]] * 3000, "neighbours": [[0]] * 3000}]},
    ],
)  # fmt: skip
def test_a_damaged_map_is_a_line_and_its_picture_takes_its_place(change, tmp_path):
    folder = full(tmp_path / "a")
    (folder / "plots" / "embedding.json").write_text(json.dumps(points(**change)))
    content, left_out = page(read_runs([str(folder)], 1))
    assert len(left_out) == 1 and "embedding.json cannot be read" in left_out[0]
    assert [tag for tag, _ in Elements(content).found].count("img") == 3


def test_what_is_large_is_reduced_or_left_out_with_a_line(tmp_path):
    folder = full(tmp_path / "a")
    (folder / "plots" / "pictures.png").write_bytes(picture(2400, 600))
    (folder / "plots" / "neighbours.png").write_bytes(b"not a picture")
    (folder / "plots" / "long.wav").write_bytes(b"\0" * (SOUND + 1))
    (folder / "plots" / "gone.wav").symlink_to(tmp_path / "none")
    (folder / "plots" / "other.wav").symlink_to(folder / "config.yaml")  # of a folder that somebody else gave
    (folder / "plots" / "pictures-other.png").symlink_to(folder / "config.yaml")
    content, left_out = page(read_runs([str(folder)], 1))
    assert [line.partition(" ")[2].partition(" ")[0] for line in left_out] == [
        "pictures-other.png", "gone.wav", "long.wav", "other.wav",
    ]  # fmt: skip
    sizes = [attributes["width"] for tag, attributes in Elements(content).found if tag == "img"]
    assert sizes == ["60", "1200", "63"] and len(content) < 2_500_000
    room = Room(100)
    assert room.takes(b"x" * 60, "one") and not room.takes(b"x" * 60, "two") and "two was left out" in room.left_out[0]


def test_a_long_curve_is_thinned_to_means_and_gaps_stay(tmp_path):
    x, y = thinned((range(1, 10_001), [float(step) for step in range(1, 10_001)]), most=100)
    assert len(x) == len(y) == 100 and x[-1] == 10_000 and y[0] == pytest.approx(50.5)
    assert thinned(([1, 2], [5.0, float("nan")]), most=1) == ([2], [5.0])
    assert np.isnan(thinned(([1, 2, 3, 4], [1.0, 2.0, float("nan"), float("nan")]), most=2)[1][1])


@pytest.mark.by_default(5)
@pytest.mark.parametrize(
    "file", ["summary.json", "metrics.csv", "resolved.yaml", "config.yaml", "data.json", "labels-digits.json"]
)
@pytest.mark.parametrize("content", [None, b"{", b"\x00\xff"])
def test_a_report_on_a_damaged_run_shows_the_rest(file, content, tmp_path, capsys):
    folder = full(tmp_path / "a")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert main(["report", str(folder), "--out", str(tmp_path / "r.html")]) == 0
    said = Elements((tmp_path / "r.html").read_text()).said
    assert "Map of the features" in said and (file in said or content is None) and not capsys.readouterr().err


def test_a_wrong_use_is_one_line(tmp_path, capsys):
    run, out = str(full(tmp_path / "a")), str(tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for argv in (
        [], [run], ["--out", out], [run, "--out"], [run, run, "--out", out], [str(tmp_path / "empty"), "--out", out],
        [str(tmp_path / "none"), "--out", out], [f"{run}/summary.json", "--out", out], [run, "--out", str(tmp_path)],
        [run, "--out", str(tmp_path / "none" / "r.html")], [run, "--out", str(tmp_path / "r.pdf")],
        [run, "--out", str(tmp_path / "file" / "r.html")], [run, "--out", ""], [run, "--out", out, "--json"],
        [run, "--out", f"/proc/{'x' * 300}.html"],
    ):  # fmt: skip
        assert main(["report", *argv]) == 2, argv
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("ssl-lightning report: error: "), error
    assert not (tmp_path / "r.html").exists()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WATCH = """<script>const say = (kind, text) => parent.postMessage([kind, text], "*");
addEventListener("securitypolicyviolation", (event) => say("wrong", event.blockedURI));
addEventListener("error", (event) => say("wrong", event.message));</script>"""
POINT = """<script>addEventListener("load", () => setTimeout(() => {
  for (const svg of document.querySelectorAll("svg")) {
    svg.scrollIntoView({ behavior: "instant" });
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width, map = svg.dataset.of;
    const at = map ? JSON.parse(document.getElementById(map + "-data").textContent).views[0].points[3] : [200, 100];
    const where = { clientX: box.left + at[0] * scale, clientY: box.top + at[1] * scale };
    svg.dispatchEvent(new PointerEvent("pointermove", where));
    say(map ? "map" : "chart", document.getElementById("tip").textContent);
  }
  for (const each of document.querySelectorAll("details")) each.open = true;
  const beyond = [...document.querySelectorAll("main *, nav *")].filter((each) => !each.closest(".wide table") &&
    each.getBoundingClientRect().right > innerWidth + 1);
  say("wide", beyond.map((each) => each.outerHTML.slice(0, 99)).join(" ") + document.documentElement.scrollWidth);
  say("thin", [...document.querySelectorAll("tbody th")].filter((each) => each.getBoundingClientRect().width < 90 &&
    each.textContent.length > 12).length);
  say("title", document.title);
}, 100));</script>"""
"""Before the page: tells what goes wrong. After it: points at each chart and map, and tells what is
shown, and what is wider than the page."""
CHROMES = ("google.com", "gvt1.com", "googleapis.com")
"""What the browser itself asks for."""
FRAME = """<!doctype html><body style="margin:0"><script>addEventListener("message", (event) => document.body.append(
Object.assign(document.createElement("pre"), { className: event.data[0], textContent: event.data[1] })));</script>
<iframe src="r.html" style="border:0;width:{width}px;height:1900px"></iframe>"""
"""Chromium's window is at least 500 pixels wide; a frame is not."""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_fetches_nothing_and_runs_nothing_that_a_run_holds(width, tmp_path):
    folders = full(tmp_path / "a", HOSTILE), full(tmp_path / "b", method="mae"), full(tmp_path / "2026-11-29_11-16-27")
    content, _ = page(read_runs([*map(str, folders)], 1))
    for script in (WATCH, POINT):
        digest = base64.b64encode(hashlib.sha256(script[8:-9].encode()).digest()).decode()
        content = content.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (tmp_path / "r.html").write_text(
        content.replace("<title>", f"{WATCH}<title>", 1).replace("</body>", f"{POINT}</body>")
    )
    (tmp_path / "frame.html").write_text(FRAME.replace("{width}", str(width)))
    log = tmp_path / "net.json"
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,2000",
               "--enable-logging=stderr", "--virtual-time-budget=4000", f"--log-net-log={log}",
               f"--screenshot={tmp_path / 'shot.png'}", "--dump-dom", (tmp_path / "frame.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    hosts = set(re.findall(r'"url":"https?://([^/"]*)', log.read_text()))
    assert not {each for each in hosts if not each.endswith(CHROMES)}
    said: dict[str, list[str]] = {}
    for kind, words in re.findall(r'<pre class="(\w+)">(.*?)</pre>', done.stdout, re.DOTALL):
        said.setdefault(kind, []).append(words)
    assert "wrong" not in said and said["title"] == ["3 runs compared: ssl-lightning"]
    assert len(said["map"]) == 6 and all(" 3class " in words for words in said["map"])
    assert "document.title=" in said["map"][0]
    assert any(words.startswith("step ") and "simclr a: 0." in words and "mae: 0." in words for words in said["chart"])
    (wide,) = said["wide"]
    assert said["thin"] == ["0"]
    assert wide.isdigit() and int(wide) <= width, wide
    assert Image.open(tmp_path / "shot.png").convert("L").getextrema() != (255, 255)
