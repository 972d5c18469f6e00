"""`ssl-lightning data`: what a data set holds, and what views of it look like, without training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it names no exports

from ..data.datamodule import SSLDataModule
from ..data.peek import evaluating, peek, sample
from ..data.views import Views
from ..evaluation.shown import corrupted_views, first_views, originals_of
from ..method import SSLMethod
from ..types import Strength, View
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
        options: `--data NAME`, its arguments, configs, as `fit` takes them; with `--model NAME`,
            what that method makes of the samples.
        folder: where pictures are written; empty: `data-NAME`.

    Raises:
        UsageError, RegistryError: the user made a mistake; the message is one line.
    """
    names = Names(load)
    request = read_request(["fit", *options], names)
    with worded(request, names):
        registry = names.registries[KINDS["data"]]
        if "data" not in request.chosen:
            raise UsageError(f"Missing: the name of a data set. Installed: {', '.join(registry)}.")
        built = build(request, names, lowest_layer(request, names))
        built["data"].prepare_data()
        folder = folder or f"data-{registry.name_of(request.chosen['data'])}"
        return "\n".join(_lines(built["data"], built.get("model"), Path(folder)))


def build(request: Request, names: Names, layer: dict[str, Any]) -> dict[str, Any]:
    """Builds the `data`, and the `model` where one was given, of a command line.

    Args:
        request: the command line.
        names: of the plug-ins.
        layer: the config below all that the user says.
    """
    parser = Parser()
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_lightning_class_args(SSLDataModule, "data", subclass_mode=True)
    parts = ["data", *["model"] * any(token.partition("=")[0] == "--model" for token in request.tokens)]
    if "model" in parts:
        parser.add_lightning_class_args(SSLMethod, "model", subclass_mode=True)
    layer = {part: each for part, each in layer.items() if part in parts}
    try:
        config = parser.parse_args(["--config", json.dumps(layer), *_of(parts, request.tokens)])
    except Refusal as refusal:
        raise UsageError(in_one_line(str(refusal), parser._option_string_actions)) from refusal
    built: dict[str, Any] = parser.instantiate_classes(config).as_dict()
    return built


def _of(parts: list[str], tokens: list[str]) -> Iterator[str]:
    """The tokens, with only these parts of each config: that of a run is taken too."""
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before != "--config":
            yield token
            continue
        tree = json.loads(token)
        yield json.dumps({key: tree[key] for key in (*parts, "seed_everything") if key in tree})


def _captions(data: SSLDataModule, method: SSLMethod | None, index: torch.Tensor) -> dict[str, View]:
    """Views of samples [S]: as they are, and as the method, or the strong recipe, makes them; and
    what the method's network is given."""
    if method is None:
        views = Views([data.transform(strength) for strength in CAPTIONS.values()], data.seed)
        return dict(zip(CAPTIONS, peek(data, data.training_split, index, "cpu", views)["views"], strict=True))
    data.serve(method)
    data.meet(method)
    batch = peek(data, data.training_split, index, "cpu", Views(data.transforms, data.seed))
    with evaluating(method), torch.no_grad():
        changed = corrupted_views(method, batch)
    return {**originals_of(data, batch, method.views), **first_views(batch, method.views.clean), **changed}


def _lines(data: SSLDataModule, method: SSLMethod | None, folder: Path) -> Iterator[str]:
    for name, ledger in data.ledgers().items():
        yield from (f"{name}, {tally}" for tally in ledger)
    index = sample(len(data.training_split), SHOWN)
    captions = _captions(data, method, index)
    for caption, view in captions.items():
        yield f"{caption}: {_numbers(view.x)}"
    yield from data.in_words(next(iter(captions.values())))
    yield from data.advice([view for caption, view in captions.items() if caption.startswith(("view", "augmented"))])
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
