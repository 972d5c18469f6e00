"""`ssl-lightning data`: what a data set holds, and what views of it look like, without training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it names no exports

from ..data.datamodule import SSLDataModule
from ..data.peek import peek, sample
from ..data.views import Views
from ..types import Strength
from .command import Parser, Refusal, load, worded
from .complaint import in_one_line
from .defaults import lowest_layer
from .names import KINDS, Names, UsageError
from .request import Request, read_request

SHOWN = 8
"""Samples that are drawn."""
CAPTIONS: dict[str, Strength] = {"as it is": "none", "augmented": "strong"}
"""The strength of augmentation by the caption under which it is drawn."""


def describe(options: list[str], folder: str) -> str:
    """Says in lines what was found of each split, what it is used for and what is left out, and
    draws some samples into a folder.

    Args:
        options: `--data NAME`, its arguments, configs, as `fit` takes them.
        folder: where pictures are written; empty: `data-NAME`.

    Raises:
        UsageError, RegistryError: the user made a mistake; the message is one line.
    """
    names = Names(load)
    request = read_request(["fit", *options], names)
    with worded(request, names):
        data = _built(request, names)
        data.prepare_data()
        name = names.registries[KINDS["data"]].name_of(request.chosen["data"])
        return "\n".join(_lines(data, Path(folder or f"data-{name}")))


def _built(request: Request, names: Names) -> SSLDataModule:
    registry = names.registries[KINDS["data"]]
    if "data" not in request.chosen:
        raise UsageError(f"Missing: the name of a data set. Installed: {', '.join(registry)}.")
    parser = Parser()
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_lightning_class_args(SSLDataModule, "data", subclass_mode=True)
    layer = {"data": lowest_layer(request, names)["data"]}
    try:
        config = parser.parse_args(["--config", json.dumps(layer), *_of_data(request.tokens)])
    except Refusal as refusal:
        raise UsageError(in_one_line(str(refusal), parser._option_string_actions)) from refusal
    data: SSLDataModule = parser.instantiate_classes(config)["data"]
    return data


def _of_data(tokens: list[str]) -> Iterator[str]:
    """The tokens, with only the data of each config: that of a run is taken too."""
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before != "--config":
            yield token
            continue
        tree = json.loads(token)
        yield json.dumps({key: tree[key] for key in ("data", "seed_everything") if key in tree})


def _lines(data: SSLDataModule, folder: Path) -> Iterator[str]:
    for name, ledger in data.ledgers().items():
        yield from (f"{name}, {tally}" for tally in ledger)
    source = data.training_split
    index = sample(len(source), SHOWN)
    views = Views([data.transform(strength) for strength in CAPTIONS.values()], data.seed)
    captions: dict[str, Any] = dict(zip(CAPTIONS, peek(data, source, index, "cpu", views)["views"], strict=True))
    for caption, view in captions.items():
        yield f"{caption}: {_numbers(view.x)}"
    yield from data.in_words(next(iter(captions.values())))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = data.show(captions, folder / "views.png")
    yield f"{len(index)} samples: {', '.join(map(str, pictures.values()))}" if pictures else "No picture of such data."


def _numbers(x: torch.Tensor) -> str:
    """The shape, type and range of a view."""
    if not x.is_floating_point():
        return f"{list(x.shape)}, {str(x.dtype).removeprefix('torch.')}"
    finite = x[x.isfinite()].float()
    values = f"{finite.min():.3g} to {finite.max():.3g}, mean {finite.mean():.3g}" if len(finite) else "nothing finite"
    return f"{list(x.shape)}, {values}"
