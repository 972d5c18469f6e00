"""The public names: imported when they are used, and listed in `docs/api.md`.

`python tests/test_api.py` writes that page.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from ssl_lightning.methods.bert import BERT

import ssl_lightning

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEADINGS = {
    "types": "What crosses the border between data and method",
    "method": "Methods",
    "evaluation": "Methods",
    "optim": "Methods",
    "nn.losses": "Losses",
    "nn.masks": "Masks",
    "nn": "Networks",
    "augment.random": "Random numbers from keys",
    "distributed": "Between processes",
    "data": "Datamodules and sources",
    "augment": "Datamodules and sources",
    "encoders": "Encoders",
    "trainer": "Runs",
    "run": "Runs",
    "evaluation.use": "Runs",
    "plugins": "Arguments",
}
"""Of modules and folders of the package, the first that fits."""
CITATION = re.compile(r"\s\([^()]*(arXiv|doi)[^()]*\)")
INTRODUCTION = """\
# Public names

What an author of [plug-ins](plug-ins.md) imports from the top: `from ssl_lightning import Encoder,
SSLMethod, mlp`. A name is imported on its first use, so that `import ssl_lightning` costs nothing.
The conformance kit is in `ssl_lightning.testing`. `python tests/test_api.py` writes this page.
"""


def module_of(name: str) -> str:
    return ssl_lightning._MODULES[name].removeprefix(".")


def heading_of(name: str) -> str:
    module = module_of(name)
    return next(HEADINGS[each] for each in HEADINGS if f"{module}.".startswith(f"{each}."))


def first_sentence(name: str) -> str:
    """The first sentence of a docstring, without citations; the values of a `Literal`."""
    value = getattr(ssl_lightning, name)
    if values := get_args(value):
        return f"One of {', '.join(f'`{each}`' for each in values)}."
    paragraph = " ".join(inspect.getdoc(value).partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:])\s(?=[A-Z`])", CITATION.sub("", paragraph))[0]
    return (sentence.removesuffix(":") + "." * (not sentence.endswith("."))).replace("|", "\\|")


def page() -> str:
    names = [name for name in ssl_lightning.__all__ if name != "__version__"]
    parts = [INTRODUCTION]
    for heading in dict.fromkeys(HEADINGS.values()):
        rows = [name for name in names if heading_of(name) == heading]
        lines = [f"| `{name}` | {first_sentence(name)} | `{module_of(name)}` |" for name in sorted(rows, key=str.lower)]
        parts.append("\n".join([f"## {heading}\n", "| name | what | module |", "| --- | --- | --- |", *lines, ""]))
    return "\n".join(parts)


def test_the_page_lists_every_name_with_its_module() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| `([\w.]+)` \|$", PAGE.read_text(), re.MULTILINE))
    assert listed == {name: module_of(name) for name in ssl_lightning.__all__ if name != "__version__"}


def test_the_page_says_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page(), "run `python tests/test_api.py`, which writes docs/api.md"


@pytest.mark.parametrize("name", ssl_lightning.__all__)
def test_a_name_is_the_one_of_its_module(name: str) -> None:
    value = getattr(ssl_lightning, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == f"ssl_lightning.{module_of(name)}" and value.__name__ == name


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import ssl_lightning; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ssl_lightning"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ssl_lightning' has no attribute 'Encodr'"):
        _ = ssl_lightning.Encodr


def test_what_plug_ins_may_define_exists() -> None:
    """The members in the tables for authors are those of the base classes, or of a method that has
    them."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE.with_name("plug-ins.md").read_text(), re.MULTILINE)
    members = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    bases = [ssl_lightning.SSLMethod, ssl_lightning.SSLDataModule, ssl_lightning.TokenEncoder, BERT]
    assert len(members) > 30
    assert {name for name in members if not any(hasattr(base, name) for base in bases)} == {"EMA"}


if __name__ == "__main__":
    PAGE.write_text(page())
