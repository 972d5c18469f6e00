"""From a checkpoint of another library to an encoder's file that every command takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data.files.atomic import atomic_folder
from ..data.images.datamodule import ImageDataModule, PictureDataModule
from ..encoders.base import Encoder
from ..plugins.gate import read_json
from ..plugins.messages import printable
from ..plugins.record import class_path, config_of
from ..run.checkpoints.encoder_file import save_encoder, write_card
from ..types import View
from .foreign.file import named_classes, read_file
from .foreign.formats import FORMATS, Fit, fit_of
from .foreign.layout import Found, Tensors, Traits
from .foreign.positions import resized
from .foreign.shapes import Wanted, encoder_for, holder_of

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


class Imported(NamedTuple):
    """An encoder from another library: itself, the arguments of the data that it reads, and facts
    for the card."""

    encoder: Encoder
    images: dict[str, Any]
    facts: dict[str, str]


def import_encoder(
    file: str | Path,
    folder: str | Path,
    *,
    format: str | None = None,
    network: str | None = None,
    wanted: Wanted = Wanted(),
    images: Images = Images(),
) -> Imported:
    """Writes `encoder.safetensors` and its card, whole or not at all.

    Args:
        file: the checkpoint.
        folder: the folder to write; it must not exist yet, or be empty.
        format: of the file, one of `FORMATS`; None: that which alone fits its keys.
        network: which one of several; None: the one that the method's paper evaluates.
        wanted: the architecture, as far as the user says.
        images: how images were prepared, as far as the user says.

    Raises:
        FileNotFoundError: there is no such file.
        FileExistsError: the folder holds something.
        ValueError: the file is damaged, has no known format, or its tensors do not fit an encoder;
            what is missing or left over is named.
    """
    target, source = Path(folder), Path(file)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} exists already; give a folder that does not exist yet, or is empty.")
    imported = read_encoder_of(source, format=format, network=network, wanted=wanted, images=images)
    with atomic_folder(target) as temporary:
        _write(imported, temporary, target)
    return imported


def read_encoder_of(
    source: Path,
    *,
    format: str | None = None,
    network: str | None = None,
    wanted: Wanted = Wanted(),
    images: Images = Images(),
) -> Imported:
    """The encoder of another library's file; otherwise as `import_encoder`, without writing."""
    where = repr(printable(source))
    contents = read_file(source)
    fit = fit_of(contents, format, where)
    keys, chosen = list(fit.state), _network(fit, network, where)
    if strangers := fit.layout.strangers(keys):
        raise ValueError(f"{where} holds what {FORMATS[fit.name].library} does not write: {_some(strangers)}.")
    part = fit.layout.part(fit.layout.networks[chosen], keys)
    inside = {name: fit.state[key].float() for key, name in part.items() if not fit.layout.is_head(name)}
    found = Found(inside, contents, _beside(source, FORMATS[fit.name].settings), fit.layout)
    traits = FORMATS[fit.name].traits(found)
    encoder, notes = _filled(FORMATS[fit.name].renamed(inside), traits, wanted, images, FORMATS[fit.name].pooling, where)
    arguments = _arguments(encoder, traits, images)
    _check(encoder, arguments, where)
    left = _left(fit, chosen)
    facts = {
        "file": f"{printable(source.name)}, sha256 {_digest(source)}",
        "format": f"{fit.name}: {FORMATS[fit.name].library}, {fit.layout.method}",
        "network": " of ".join([chosen, str(len(fit.layout.networks_in(keys)))]),
        "left behind": ", ".join(left) or "nothing",
        "not read": ", ".join(named_classes(source)[:SHOWN]) if source.suffix != ".safetensors" else "",
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


def _filled(
    tensors: Tensors, traits: Traits, wanted: Wanted, images: Images, pooling: str, where: str
) -> tuple[Encoder, list[str]]:
    """Builds the encoder and gives it the tensors; returns it with what is to be said of them."""
    tensors, notes = resized(tensors, images.size)
    encoder = encoder_for(tensors, traits, wanted, pooling).eval()
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
        raise ValueError(f"The network in {where} is no {_described(encoder)}, which it seems to be. {listed}.")
    model.load_state_dict({name: tensors.get(name, tensor) for name, tensor in needed.items()})
    encoder.taught = True
    heads = config_of(encoder)["init_args"].get("heads")
    if heads is not None and heads not in (wanted.heads, traits.heads):
        notes.append(f"{heads} heads of attention, which the tensors do not say (--heads)")
    return encoder, notes


def _described(encoder: Encoder) -> str:
    arguments = config_of(encoder)["init_args"]
    return str(arguments.get("name") or f"ResNet of {arguments.get('layers')} blocks")


def _arguments(encoder: Encoder, traits: Traits, images: Images) -> dict[str, Any]:
    """The arguments of the data that the encoder reads."""
    given = config_of(encoder)["init_args"]
    built, channels = given.get("image_size"), int(given["channels"])
    fine = given.get("small_images") or given.get("stride") == 1
    size = images.size or traits.image_size or (SMALL_SIDE if fine else SIDE)
    if built is not None:
        size = max(built) if isinstance(built, (list, tuple)) else built
    grey = channels != 3
    policy = PictureDataModule.policy
    mean = images.mean or traits.mean or ((0.5,) if grey else policy.mean)
    std = images.std or traits.std or ((0.25,) if grey else policy.std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"--{name} has {len(values)} values; give 1, or {channels}, one for each channel.")
    return {
        "image_size": int(size),
        "channels": channels,
        "augmentation": {"mean": [float(each) for each in mean], "std": [float(each) for each in std]},
    }


@torch.no_grad()
def _check(encoder: Encoder, arguments: Mapping[str, Any], where: str) -> None:
    """Refuses weights whose features are not finite."""
    side = arguments["image_size"]
    x = torch.rand(2, arguments["channels"], side, side, generator=torch.Generator().manual_seed(0))
    if not encoder(View(x)).isfinite().all():
        raise ValueError(f"The features of the network in {where} are not finite: its weights are damaged.")


def _write(imported: Imported, folder: Path, target: Path) -> None:
    """Writes the encoder's file and its card into a folder that will be called `target`."""
    given = ImageDataModule.of_items()
    artifacts = given(**imported.images).artifacts()
    facts = {name.replace(" ", "_"): value for name, value in imported.facts.items()}
    save_encoder(imported.encoder, folder / "encoder.safetensors", artifacts, reads=class_path(ImageDataModule), **facts)
    recipe = imported.images["augmentation"]
    shown = {
        "encoder": type(imported.encoder).__name__,
        "features": f"{imported.encoder.dim} values per sample",
        **({"pooling": pooling} if (pooling := getattr(imported.encoder, "pooling", None)) else {}),
        "images": f"{imported.images['image_size']} pixels, mean {recipe['mean']}, standard deviation {recipe['std']}",
        **imported.facts,
    }
    lines = (
        f'from ssl_lightning import Reader\nread = Reader("{printable(target)}")\n'
        f"features = read({ImageDataModule.example_items})  # [2, {imported.encoder.dim}]"
    )
    write_card(folder / "encoder.md", f"{printable(target.name)}: encoder", shown, "Not evaluated here.", lines)


def _beside(source: Path, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The JSON objects in files beside the checkpoint, as far as they are there."""
    paths = [source.with_name(name) for name in names]
    values = {
        path.name: read_json(path.read_text(encoding="utf-8"), repr(printable(path))) for path in paths if path.is_file()
    }
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
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
