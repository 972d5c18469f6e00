"""The first sentence of a class's docstring, read from its source code: nothing is imported, not
even parent packages."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path


def first_sentence(module: str, attribute: str) -> str:
    """The docstring of `module:attribute` up to the first line that ends a sentence, in one line,
    or a note in parentheses where it cannot be read.

    A class that the module only re-exports (`from .method import Acme`) is looked up in the module
    that defines it.
    """
    try:
        docstring = _docstring(module, attribute.split("."), hops=4)
    except (SyntaxError, ValueError):
        return "(source does not parse)"
    except (ImportError, OSError, LookupError) as error:
        return f"({error})"
    words: list[str] = []
    for line in (docstring or "").strip().splitlines():
        words += line.split()
        if not line.strip() or words[-1].endswith((".", "!", "?")):
            break
    return " ".join(words) or "(no docstring)"


def find_spec(module: str) -> ModuleSpec:
    """The result of `importlib.util.find_spec`, without importing the parent packages.

    Raises:
        ImportError: there is no such module.
    """
    parent, _, _ = module.rpartition(".")
    spec = _ask_finders(module, _locations(find_spec(parent)) if parent else None)
    if spec is None:
        raise ImportError(f"no module {module!r}")
    return spec


def _ask_finders(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, path) if find else None
        except KeyError:  # a namespace package inside a package that is not imported looks for it in sys.modules
            spec = _namespace(name, path or [])
        if spec is not None:
            return spec
    return None


def _namespace(name: str, path: Iterable[str]) -> ModuleSpec | None:
    folders = [str(folder) for entry in path if (folder := Path(entry, name.rpartition(".")[2])).is_dir()]
    if not folders:
        return None
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec


def _locations(spec: ModuleSpec) -> list[str]:
    locations = spec.submodule_search_locations
    # `_path`: iterating over a namespace's path itself would look for imported parents.
    return list(getattr(locations, "_path", locations) or [])


def _docstring(module: str, names: list[str], hops: int) -> str | None:
    spec = find_spec(module)
    get_source = getattr(spec.loader, "get_source", None)
    text = get_source(module) if get_source else None
    if text is None:
        raise LookupError("no source")
    node: ast.Module | ast.ClassDef = ast.parse(text)
    for depth, name in enumerate(names):
        last_first = reversed(node.body)  # the last definition of a name is the valid one
        child = next((child for child in last_first if name in _binds(child)), None)
        if isinstance(child, ast.ImportFrom) and hops:
            package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
            return _docstring(_absolute(child, package), [_binds(child)[name], *names[depth + 1 :]], hops - 1)
        if not isinstance(child, ast.ClassDef):
            raise LookupError(f"no class {name!r} in {module}")
        node = child
    return ast.get_docstring(node)


def _binds(node: ast.stmt) -> dict[str, str]:
    """The names that a class definition or an import binds, each with the name that it has in the
    module it comes from."""
    if isinstance(node, ast.ClassDef):
        return {node.name: node.name}
    return {alias.asname or alias.name: alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else {}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ..module import name` means inside a package."""
    if not node.level:
        return node.module or ""
    base = package.split(".")[: package.count(".") + 2 - node.level]
    return ".".join([*base, node.module] if node.module else base)
