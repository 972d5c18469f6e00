"""The reference: each public name with its signature and its docstring.

Names and their order are those of docs/api.md.
"""

from __future__ import annotations

import inspect
import re
from typing import get_args

from docstrings import annotated, arguments, inline, parse, shown, table

import ssl_lightning

ROW = re.compile(r"^\| `(\w+)` \|.*\| `([\w.]+)` \|$")


def page(names: str) -> str:
    """The page.

    Args:
        names: the text of docs/api.md: headings, and tables whose first column is a name.
    """
    parts = ["# Reference", "What `from ssl_lightning import ...` gives, in full: signatures and docstrings."]
    for line in names.splitlines():
        if line.startswith("## "):
            parts.append(line)
        elif row := ROW.match(line):
            parts += _entry(row[1], row[2])
    return "\n\n".join(part for part in parts if part) + "\n"


def linked(text: str) -> str:
    """docs/api.md with each name as a link to the reference."""
    return re.sub(r"^\| `(\w+)` \|", lambda row: f"| [`{row[1]}`](reference.md#{row[1].lower()}) |", text, flags=re.M)


def _entry(name: str, module: str) -> list[str]:
    value = getattr(ssl_lightning, name)
    if values := get_args(value):
        return [f"### {name}", f"One of {', '.join(f'`{each}`' for each in values)}, of `{module}`."]
    said = parse(value)
    parts = [f"### {name}", f"```python\n{_signature(name, value)}\n```", said.text]
    for section in said.entries:
        if section in ("Args", "Attributes"):
            parts.append(table(("argument", "default", "what"), arguments(value, section)))
        else:
            parts.append("\n".join(_line(section, names, meaning) for names, meaning in said.entries[section]))
    methods = [each for each in vars(value).values() if _public(each)] if inspect.isclass(value) else []
    rows = [(f"`{each.__name__}`", _first(each)) for each in methods]
    return [*parts, table(("method", "what"), rows)]


def _line(section: str, names: str, meaning: str) -> str:
    return f"- {section}: {f'`{names}`: ' if names else ''}{meaning}"


def _public(value: object) -> bool:
    return inspect.isfunction(value) and not value.__name__.startswith("_") and bool(value.__doc__)


def _first(function: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return inline(inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0])


def _signature(name: str, value: object) -> str:
    """How a name is called, in lines of at most 90 characters; its name alone where that is
    unknown."""
    try:
        parameters = inspect.signature(value).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return name
    parts = [_parameter(each) for each in parameters]
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    one_line = f"{name}({', '.join(parts)})"
    return one_line if len(one_line) <= 90 else f"{name}(\n" + "".join(f"    {each},\n" for each in parts) + ")"


def _parameter(parameter: inspect.Parameter) -> str:
    """A parameter as it stands in the code: name, annotation, default."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {annotated(parameter.annotation)}"
    default = "" if parameter.default is parameter.empty else f" = {shown(parameter.default)}"
    return f"{stars}{parameter.name}{annotation}{default}"
