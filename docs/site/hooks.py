"""Builds the site: adds the pages that do not lie in docs/, completes those of the methods, and
turns links between files into links between pages. MkDocs calls what begins with `on_`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import method_pages
import reference
from links import OUTSIDE, deepened, relink
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from navigation import navigation
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger("mkdocs.plugins.site")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors are made as GitHub makes them, so that links work in both places."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages: those of the repository outside of docs/, the configs, the reference, and methods
    without a hand-written part. Then the navigation is known."""
    pages = {page: _relinked((ROOT / path).read_text(), path) for path, page in OUTSIDE.items()}
    pages["configs.md"] = _configs()
    pages["reference.md"] = reference.page((ROOT / "docs" / "api.md").read_text())
    for name in method_pages.methods():
        if files.get_file_from_path(f"methods/{name}.md") is None:
            pages[f"methods/{name}.md"] = f"# {name}\n"
    pages["assets/site.css"] = Path(__file__).with_name("site.css").read_text()
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    config.nav = navigation(file.src_uri for file in files.documentation_pages())
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page as it is on the site."""
    path = page.file.src_uri
    if path in (*OUTSIDE.values(), "configs.md", "reference.md"):
        return markdown
    method = method_pages.methods().get(Path(path).stem) if path.startswith("methods/") else None
    text = _relinked(markdown, f"docs/{path}")
    if path == "api.md":
        return reference.linked(text)
    return text if method is None else method_pages.complete(Path(path).stem, method, text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keeps the name of an option, such as `--data.root`, whole: browsers break after `--`."""

    def whole(code: re.Match[str]) -> str:
        return re.sub(r"(?<![\w\"=-])--\w[\w.]*", r'<span class="option">\g<0></span>', code[0])

    return re.sub(r"<code>.*?</code>", whole, html, flags=re.DOTALL)


def _relinked(text: str, path: str) -> str:
    missing: list[str] = []
    changed = deepened(relink(text, path, missing))
    for link in missing:
        LOG.warning("%s links to %s, which is not on the site.", path, link)
    return changed


def _configs() -> str:
    """The page of all configs that ship, each with its file."""
    parts = ["# Configs that ship", "`ssl-lightning configs` prints this list. A config's first lines say its command,"
             " what it needs and the score that it reached."]  # fmt: skip
    for name, path in method_pages.shipped().items():
        parts += [f"## {name}", f"```yaml\n{path.read_text().rstrip()}\n```"]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"
