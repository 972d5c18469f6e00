"""What differs between a page on the repository and the same page on the site: its links, and how
far a block in a list is indented."""

from __future__ import annotations

import os.path
import posixpath
import re

OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "results.md",
}
"""Pages of the site that lie outside of docs/."""
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CONFIG = re.compile(r"configs/(\w+)/(\w+)\.yaml")


def place(path: str) -> str | None:
    """Where a file of the repository is on the site; None: it is not there.

    Args:
        path: from the repository's root, such as `docs/images.md` or `configs/simclr/digits.yaml`.
    """
    config = CONFIG.fullmatch(path)
    if config:
        return f"configs.md#{config[1]}{config[2]}"
    return path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE.get(path)


def relink(text: str, path: str, missing: list[str]) -> str:
    """A page's text with its links as they are on the site; code is left alone.

    Args:
        text: Markdown, whose links lead from one file of the repository to another.
        path: the page's, from the repository's root.
        missing: gets the links that lead to nothing on the site.
    """
    here = posixpath.dirname(place(path) or path)

    def changed(match: re.Match[str]) -> str:
        file, hash_, anchor = match[2].partition("#")
        if "://" in match[2] or not file:
            return match[0]
        target = place(posixpath.normpath(posixpath.join(posixpath.dirname(path), file)))
        if target is None:
            missing.append(match[2])
            return match[0]
        target, own_hash, own_anchor = target.partition("#")
        return f"{match[1]}{os.path.relpath(target, here or '.')}{own_hash or hash_}{own_anchor or anchor}{match[3]}"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(changed, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(changed, text[end:])])


def deepened(text: str) -> str:
    """A page's text with what belongs to an entry of a list indented by four spaces or more: on the
    repository two are enough for a paragraph, a table or a block of code below an entry. An empty
    line follows."""
    lines: list[str] = []
    item = block = False
    for line in text.splitlines():
        if line and not line.startswith("  "):
            lines += [""] * (block and bool(lines[-1]))
            item, block = bool(re.match(r"- |\d+\. ", line)), False
        block = block or (item and not line)
        lines.append(f"  {line}" if block and line else line)
    return "\n".join([*lines, ""])
