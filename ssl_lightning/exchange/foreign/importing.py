"""From a checkpoint of another library to an encoder, all of whose tensors are accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...data.images.datamodule import PictureDataModule
from ...encoders.base import Encoder
from ...plugins.gate import read_json
from ...plugins.messages import printable
from ...plugins.record import config_of
from ...types import View
from .file import named_classes, read_file
from .formats import FORMATS, Fit, fit_of
from .layout import Found, Tensors, Traits
from .positions import resized
from .shapes import Wanted, encoder_for, holder_of

SHOWN = 8
"""Keys in a message."""
NEW = "num_batches_tracked"
"""Counters of batch norms, which files from before PyTorch 1.0 lack; no feature depends on them."""
SIDE, SMALL_SIDE = 224, 32
"""Of images, in pixels: ImageNet's, and CIFAR's for a ResNet whose first convolution keeps the
resolution."""


class Images(NamedTuple):
    """How images were prepared; None: what the file says, or else as for ImageNet."""

    size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


class Choice(NamedTuple):
    """What the user says about a file.

    Args:
        format: one of `FORMATS`; None: that which alone fits the file's keys.
        network: which one of several; None: the one that the method's paper evaluates.
        wanted: the architecture.
        images: how images were prepared.
    """

    format: str | None = None
    network: str | None = None
    wanted: Wanted = Wanted()
    images: Images = Images()


NOTHING = Choice()


class Imported(NamedTuple):
    """An encoder from another library: itself, the arguments of the data that it reads, and facts
    for the card."""

    encoder: Encoder
    images: dict[str, Any]
    facts: dict[str, str]


def read_foreign(source: Path, choice: Choice = NOTHING) -> Imported:
    """The encoder of another library's file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, has no known format, or its tensors do not fit an encoder;
            what is missing or left over is named.
    """
    where = repr(printable(source))
    contents = read_file(source)
    fit = fit_of(contents, choice.format, where)
    form, keys, chosen = FORMATS[fit.name], list(fit.state), _network(fit, choice.network, where)
    if strangers := fit.layout.strangers(keys):
        raise ValueError(f"{where} holds what {form.library} does not write: {_some(strangers)}.")
    part = fit.layout.part(fit.layout.networks[chosen], keys)
    inside = {name: fit.state[key].float() for key, name in part.items() if not fit.layout.is_head(name)}
    traits = form.traits(Found(inside, contents, _beside(source, form.settings), fit.layout))
    tensors, notes = resized(form.renamed(inside), choice.images.size)
    encoder = encoder_for(tensors, traits, choice.wanted, form.pooling).eval()
    _fill(encoder, tensors, where)
    arguments = _arguments(encoder, traits, choice.images)
    _check(encoder, arguments, where)
    heads = config_of(encoder)["init_args"].get("heads")
    if heads is not None and heads not in (choice.wanted.heads, traits.heads):
        notes.append(f"{heads} heads of attention, which the tensors do not say (--heads)")
    facts = {
        "file": f"{printable(source.name)}, sha256 {_digest(source)}",
        "origin": f"{fit.name}: {form.library}, {fit.layout.method}",
        "network": f"{chosen} of {len(fit.layout.networks_in(keys))}",
        "left behind": ", ".join(_left(fit, chosen)) or "nothing",
        "not read": "" if source.suffix == ".safetensors" else ", ".join(named_classes(source)[:SHOWN]),
        "assumed": "; ".join([*traits.assumed, *notes]),
    }
    return Imported(encoder, arguments, {name: value for name, value in facts.items() if value})


def _network(fit: Fit, network: str | None, where: str) -> str:
    there = fit.layout.networks_in(list(fit.state))
    if network is not None and network not in there:
        raise ValueError(f"{where} holds no network {network!r}; it holds {', '.join(there) or 'none'}.")
    if not there:
        raise ValueError(f"{where} holds no network of {FORMATS[fit.name].library}.")
    return network or there[0]


def _fill(encoder: Encoder, tensors: Tensors, where: str) -> None:
    """Gives an encoder the tensors of a network, or raises ValueError with what is missing, left
    over or of another shape."""
    model = holder_of(encoder)
    needed = model.state_dict()
    missing = [name for name in needed if name not in tensors and not name.endswith(NEW)]
    left = [name for name in tensors if name not in needed]
    wrong = [
        f"{name} {list(tensors[name].shape)} in place of {list(needed[name].shape)}"
        for name in needed
        if name in tensors and tensors[name].shape != needed[name].shape
    ]
    if missing or left or wrong:
        named = {"missing": missing, "left over": left, "of another shape": wrong}
        listed = "; ".join(f"{name}: {_some(keys)}" for name, keys in named.items() if keys)
        raise ValueError(
            f"The network in {where} does not fit {_described(encoder)}. {listed[:1].upper()}{listed[1:]}."
        )
    model.load_state_dict({name: tensors.get(name, tensor) for name, tensor in needed.items()})
    encoder.taught = True


def _described(encoder: Encoder) -> str:
    arguments = config_of(encoder)["init_args"]
    return f"{type(encoder).__name__}({arguments.get('name') or arguments.get('layers')!r})"


def _arguments(encoder: Encoder, traits: Traits, images: Images) -> dict[str, Any]:
    """The arguments of the data that the encoder reads."""
    given = config_of(encoder)["init_args"]
    built, channels = given.get("image_size"), int(given["channels"])
    fine = given.get("small_images") or given.get("stride") == 1
    size = images.size or traits.image_size or (SMALL_SIDE if fine else SIDE)
    if built is not None:
        size = max(built) if isinstance(built, (list, tuple)) else built
    policy = PictureDataModule.policy
    mean = images.mean or traits.mean or (policy.mean if channels == 3 else (0.5,))
    std = images.std or traits.std or (policy.std if channels == 3 else (0.25,))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"--{name} has {len(values)} values; give 1, or {channels}, one for each channel.")
    recipe = {
        name: [*map(float, values)] * (channels // len(values)) for name, values in (("mean", mean), ("std", std))
    }
    return {"image_size": int(size), "channels": channels, "augmentation": recipe}


@torch.no_grad()
def _check(encoder: Encoder, arguments: Mapping[str, Any], where: str) -> None:
    """Refuses weights whose features are not finite."""
    side = arguments["image_size"]
    x = torch.rand(1, arguments["channels"], side, side, generator=torch.Generator().manual_seed(0))
    if not encoder(View(x)).isfinite().all():
        raise ValueError(f"The features of the network in {where} are not finite: its weights are damaged.")


def _beside(source: Path, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The JSON objects in files beside the checkpoint, as far as they are there."""
    paths = [path for name in names if (path := source.with_name(name)).is_file()]
    values = {path.name: read_json(path.read_text(encoding="utf-8"), repr(printable(path))) for path in paths}
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _left(fit: Fit, chosen: str) -> list[str]:
    """The keys that are left behind, with their number: other networks as wholes, heads by their
    first two parts, such as `projection.model (6)`."""
    counts: Counter[str] = Counter()
    keys = list(fit.state)
    networks = {name: fit.layout.part(prefix, keys) for name, prefix in fit.layout.networks.items()}
    for key in keys:
        owner = next((name for name, part in networks.items() if key in part), None)
        if owner is not None and owner != chosen:
            counts[f"the network {owner}"] += 1
        elif owner is None or fit.layout.is_head(networks[owner][key]):
            counts[".".join(key.split(".")[:2]) if key.count(".") > 1 else key.split(".")[0]] += 1
    return [f"{name} ({count})" for name, count in counts.items()]


def _some(keys: Sequence[str]) -> str:
    more = f", and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
