"""Self-supervised pretraining on PyTorch Lightning, with methods as plug-ins.

The public names stand in `__init__.pyi`, where type checkers read them, and each is imported on its
first use, so that `import ssl_lightning` costs nothing (SPEC 1 of Scientific Python).
"""

from importlib import import_module

__version__ = "0.1.0"

with open(f"{__path__[0]}/__init__.pyi", encoding="utf-8") as _stub:
    _imports = [line.split() for line in _stub if line.startswith("from .")]
_MODULES = {name: module for _, module, _, _, _, name in _imports}  # from MODULE import name as NAME

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'ssl_lightning' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
