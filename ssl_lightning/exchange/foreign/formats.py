"""The formats by name, and which of them a file has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...plugins.messages import did_you_mean
from . import bolts, dino, huggingface, lightly, mae, moco, solo_learn, timm, vissl
from .layout import Format, Layout, Tensors
from .names import NAMES

MODULES = (timm, huggingface, lightly, solo_learn, bolts, vissl, dino, mae, moco)
FORMATS: dict[str, Format] = {name: module.FORMAT for name, module in zip(NAMES, MODULES, strict=True)}
NO_IMAGES = ("word_embeddings", "embed_tokens", "wte.", "tok_embeddings", "feature_extractor.conv_layers")
"""In the keys of models of texts or speech."""
SHOWN = 6
"""Keys in a message."""


class Fit(NamedTuple):
    """A format that a file has: its name, the layout, and the state dict."""

    name: str
    layout: Layout
    state: Tensors


def fit_of(contents: Any, name: str | None, where: str) -> Fit:
    """Which format a file has.

    Args:
        contents: of the file.
        name: the format that the user names; None: that which alone fits.
        where: the file, for messages.

    Raises:
        ValueError: there is no such format, the file does not have it, or several or none fit.
    """
    if name is not None and name not in FORMATS:
        raise ValueError(f"There is no format {name!r}.{did_you_mean(name, FORMATS)} Formats: {', '.join(FORMATS)}.")
    if not isinstance(contents, Mapping) or not contents:
        kind = "nothing" if isinstance(contents, Mapping) else f"a {type(contents).__name__}"
        raise ValueError(f"{where} holds {kind}, not a state dict or a checkpoint with one.")
    if "ssl_lightning" in contents:
        raise ValueError(f"{where} is a checkpoint of ssl_lightning itself, which every command takes as it is.")
    keys = _keys(contents)
    if any(mark in key for mark in NO_IMAGES for key in keys):
        raise ValueError(
            f"{where} holds a model of texts or speech ({keys[0]!r}, ...); encoders of images are imported. A folder of"
            " such a model is read as it is: hf:FOLDER."
        )
    if name is not None:
        return _named(contents, name, where, keys)
    fits = [fit for each in FORMATS if (fit := _fit(contents, each, named=False))]
    whole = [fit for fit in fits if not fit.layout.strangers(list(fit.state))]
    if len(whole or fits) == 1:
        return (whole or fits)[0]
    if fits:
        could = " or ".join(fit.name for fit in whole or fits)
        raise ValueError(f"{where} could be of {could}; say which: --format {(whole or fits)[0].name}.")
    raise ValueError(
        f"{where} has the keys of no format that is known: {_listed(keys)}. Formats: {', '.join(FORMATS)}; for another"
        " model of timm, --format timm --architecture NAME."
    )


def _named(contents: Mapping[str, Any], name: str, where: str, keys: list[str]) -> Fit:
    fit = _fit(contents, name, named=True)
    if fit is not None:
        return fit
    others = [each for each in FORMATS if each != name and _fit(contents, each, named=False)]
    hint = f" It fits {' or '.join(others)}." if others else ""
    raise ValueError(f"{where} is no checkpoint of {FORMATS[name].library}: {_listed(keys)}.{hint}")


def _fit(contents: Mapping[str, Any], name: str, named: bool) -> Fit | None:
    """The first layout of a format that fits a file; those that have to be named come last."""
    state = FORMATS[name].state(contents)
    if not state:
        return None
    layouts = [each for each in FORMATS[name].layouts if named or not each.only_named]
    return next((Fit(name, layout, state) for layout in layouts if layout.fits(list(state))), None)


def _keys(contents: Mapping[str, Any]) -> list[str]:
    """The keys of the first state dict in a file, or of the file itself."""
    states = (format_.state(contents) for format_ in FORMATS.values())
    return list(next((state for state in states if state), contents))


def _listed(keys: list[str]) -> str:
    return ", ".join(map(str, keys[:SHOWN])) + ", ..." * (len(keys) > SHOWN)
