"""The formats of other libraries, by the names that `--format` takes."""

from __future__ import annotations

from importlib import import_module

from ...plugins.messages import did_you_mean
from .base import Format

FORMATS = {
    "timm": "timm:Timm",
    "torchvision": "torchvision:Torchvision",
    "huggingface": "huggingface:HuggingFace",
    "onnx": "onnx:Onnx",
    "torch": "torch:Torch",
}
"""The module here and the class of each format."""


def format_of(name: str) -> Format:
    """Returns a format.

    Raises:
        ValueError: there is no format of this name.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}.{did_you_mean(name, FORMATS)} Formats: {', '.join(FORMATS)}.")
    module, _, cls = FORMATS[name].partition(":")
    format: Format = getattr(import_module(f".{module}", __package__), cls)()
    return format
