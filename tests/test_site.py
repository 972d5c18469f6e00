"""The documentation as a site: the rules it is built by, and, with `-m slow`, the site itself."""

from __future__ import annotations

import html
import importlib
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ssl_lightning import SSLMethod
from ssl_lightning.cli.configs import row, shipped
from ssl_lightning.cli.main import main

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
CURVES = {path.stem for path in ROOT.glob("docs/methods/*.png")}
ADDRESS = re.compile(r"""(?:src|href)=["']?(https?:)?//[^"'> ]+|url\((?:https?:)?//|@import\s+["']""")
LOADING = re.compile(r"<(?:script|img|iframe|source|audio|video|link)\b[^>]*>")


@pytest.fixture(scope="module")
def part() -> Iterator[object]:
    """Imports a module of docs/site by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        before = set(sys.modules)
        yield importlib.import_module
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SITE)):
                del sys.modules[name]


def test_a_page_that_nobody_listed_is_in_the_navigation(part) -> None:
    pages = ["index.md", "images.md", "going-on.md", "methods/new.md", "tutorials/new.md", "methods/simclr.md"]
    shown = {}
    for entry in part("navigation").navigation(pages):
        shown |= entry
    assert shown["Guides"] == ["images.md", "going-on.md"]
    assert shown["Methods"] == ["methods/simclr.md", "methods/new.md"]
    assert shown["Tutorials"] == ["tutorials/new.md"]


def test_every_page_is_in_the_navigation_once(part) -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    entries = part("navigation").navigation(pages)[1:]
    assert sorted(page for entry in entries for listed in entry.values() for page in listed) == sorted(pages)


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("README.md", "docs/images.md#labels", "images.md#labels"),
        ("README.md", "configs/moco_v3/digits.yaml", "configs.md#moco_v3digits"),
        ("docs/images.md", "../README.md#quick-start", "index.md#quick-start"),
        ("docs/images.md", "views.png", "views.png"),
        ("docs/tutorials/few-labels.md", "../../README.md", "../index.md"),
        ("docs/methods/simclr.md", "../../benchmarks/RESULTS.md", "../results.md"),
        ("benchmarks/README.md", "RESULTS.md", "results.md"),
        ("docs/images.md", "#labels", "#labels"),
        ("docs/images.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_a_link_between_files_is_one_between_pages(part, page: str, link: str, on_the_site: str) -> None:
    missing: list[str] = []
    code = f"```text\n[a]({link})\n```\n"
    assert part("links").relink(f"[a]({link}) b\n{code}", page, missing) == f"[a]({on_the_site}) b\n{code}"
    assert not missing


def test_a_link_to_what_is_not_on_the_site_is_named(part) -> None:
    missing: list[str] = []
    part("links").relink("[a](../setup.cfg)", "docs/images.md", missing)
    assert missing == ["../setup.cfg"]


def test_a_block_below_an_entry_of_a_list_is_indented_by_four_spaces(part) -> None:
    text = "- a\n  b\n\n  | c |\n  | - |\n- d\n\ne\n\n  f\n"
    assert part("links").deepened(text) == "- a\n  b\n\n    | c |\n    | - |\n\n- d\n\ne\n\n  f\n"


class Said(SSLMethod):
    """A first paragraph, of
    two lines | with a_name and `code_name`.

    Args:
        encoder: what it reads.
        one, two: a pair, whose text
            goes on: here.
        three: the last.

    Raises:
        ValueError: never.
    """

    def __init__(self, encoder: object, *, one: int = 1, two: str = "a", three: float | None = None) -> None: ...


def test_a_docstring_becomes_a_table_of_arguments_with_their_defaults(part) -> None:
    docstrings = part("docstrings")
    said = docstrings.parse(Said)
    assert said.text == "A first paragraph, of two lines \\| with a\\_name and `code_name`."
    assert said.entries["Raises"] == [("ValueError", "never.")]
    assert docstrings.arguments(Said) == [
        ("`encoder`", "", "what it reads."),
        ("`one`, `two`", "`1`, `'a'`", "a pair, whose text goes on: here."),
        ("`three`", "`None`", "the last."),
    ]


def test_every_argument_of_a_method_is_on_its_page_with_alarms_and_configs(part) -> None:
    pages = part("method_pages")
    methods = pages.methods()
    assert len(methods) > 10
    for name, method in methods.items():
        page = pages.complete(name, method, f"# {name}\n\nWritten by hand.\n")
        assert page.index("Written by hand.") < page.index("## Arguments")
        for argument in part("docstrings").defaults(method):
            assert re.search(rf"^\|.*`{argument}`", page, re.MULTILINE), (name, argument)
        assert "`collapse/growth`" in page
        assert all(f"[`{each}`]" in page for each in shipped() if each.startswith(f"{name}/"))
    written = (ROOT / "docs" / "methods" / "wav2vec2.md").read_text()
    assert "`train/code_perplexity` | at least 4" in pages.complete("wav2vec2", methods["wav2vec2"], written)


def test_a_healthy_curve_is_small_and_on_its_page() -> None:
    assert len(CURVES) >= 10
    for name in CURVES:
        path = ROOT / "docs" / "methods" / f"{name}.png"
        assert path.stat().st_size < 30_000 and Image.open(path).mode == "P"
        assert f"({name}.png)" in path.with_suffix(".md").read_text()


def test_a_page_whose_method_is_gone_is_noticed(part) -> None:
    assert {path.stem for path in ROOT.glob("docs/methods/*.md")} <= set(part("method_pages").methods())


PARSED = [said["command"] for name, path in shipped().items() if "<" not in (said := row(name, path, True))["command"]]


@pytest.mark.slow
@pytest.mark.parametrize("command", PARSED)
def test_the_command_of_a_config_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a text")
    with pytest.raises(SystemExit) as end:
        main([*shlex.split(command)[1:], "--print_config"])
    assert not end.value.code


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly, whose warnings are errors."""
    pytest.importorskip("material", reason="needs the extra [docs]")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.slow
def test_the_site_is_whole_and_its_markdown_is_read_as_on_github(built: Path) -> None:
    pages = {path.relative_to(built).as_posix(): path.read_text() for path in built.rglob("*.html")}
    for path in ROOT.glob("docs/**/*.md"):
        assert path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() in pages
    assert {"index.html", "reference.html", "configs.html", "results.html"} <= set(pages)
    for name, page in pages.items():
        text = html.unescape(re.sub(r"<(pre|code|script|style)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL))
        assert not re.search(r"\| ?--|```|\]\(|^ *- \w|\*\*\w|\. -\s+[A-Z]", text, re.MULTILINE), name


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(built: Path) -> None:
    for path in (*built.rglob("*.html"), *built.rglob("*.css")):
        text = path.read_text()
        loads = text if path.suffix == ".css" else " ".join(LOADING.findall(text))
        assert not ADDRESS.search(loads), (path, ADDRESS.search(loads))
