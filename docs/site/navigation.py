"""The order of the pages: known ones as listed, others at the end of their part."""

from __future__ import annotations

from collections.abc import Iterable

PARTS = {
    "Tutorials": ["tutorials/images", "tutorials/text", "tutorials/sound", "tutorials/few-labels",
                  "tutorials/own-method", "tutorials/cluster"],
    "Methods": ["which-method", "methods/simclr", "methods/moco", "methods/moco_v3", "methods/byol", "methods/swav",
                "methods/mae", "methods/denoise", "methods/bert", "methods/wav2vec2", "methods/next_step",
                "methods/infill", "methods/finetune", "methods/linear_probe", "configs", "papers"],
    "Guides": ["images", "text", "sound", "few-labels", "from-pretraining-to-use", "command-line", "run-folder",
               "pictures", "evaluation-protocol"],
    "Extending": ["plug-ins", "api", "reference"],
    "Evidence": ["reliability", "speed", "benchmarks", "results"],
    "Project": ["contributing", "changelog"],
}  # fmt: skip
"""Pages of each part in their order. A page that is not listed comes after them: in the part of its
folder, or else in the guides."""
FOLDERS = {"tutorials": "Tutorials", "methods": "Methods"}


def navigation(pages: Iterable[str]) -> list[dict[str, str | list[str]]]:
    """The site's navigation.

    Args:
        pages: all that there are, as paths from docs/.
    """
    left = dict.fromkeys(sorted(page.removesuffix(".md") for page in pages))
    parts: dict[str, list[str]] = {}
    for part, listed in PARTS.items():
        parts[part] = [page for page in listed if page in left]
        for page in parts[part]:
            del left[page]
    left.pop("index", None)
    for page in left:
        parts[FOLDERS.get(page.partition("/")[0], "Guides")].append(page)
    shown: list[dict[str, str | list[str]]] = [{"Home": "index.md"}]
    return shown + [{part: [f"{page}.md" for page in listed]} for part, listed in parts.items()]
