"""What a format is: where the networks lie in a file of another library, and how their tensors are
called."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]
"""A state dict."""


@dataclass(frozen=True)
class Traits:
    """What a network's tensors do not say.

    Args:
        padding: of a first convolution of 3x3 pixels, in pixels.
        activation: whether a ReLU follows a ResNet's first norm.
        pool: whether max-pooling follows; None: after a first convolution of 7x7 pixels.
        heads: of a vision transformer's attention; None: one for 64 values, 16 for 1280.
        norm_eps: of a vision transformer's norms; None: 1e-6, as in all but transformers.
        patch, step: side of the patches that a ResNet reads one by one, and pixels from one to the
            next; 0: it reads the whole image.
        image_size, mean, std: of the images; None: not said.
        assumed: sentences on what the file does not say, for the card.
    """

    padding: int = 1
    activation: bool = True
    pool: bool | None = None
    heads: int | None = None
    norm_eps: float | None = None
    patch: int = 0
    step: int = 0
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """A network that was found in a file.

    Args:
        tensors: of the network, by its own names.
        checkpoint: all that the file holds.
        settings: JSON files beside the file, by name.
        layout: in which it was found.
    """

    tensors: Tensors
    checkpoint: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    layout: Layout


def same(tensors: Tensors) -> Tensors:
    """Returns the tensors as they are called."""
    return tensors


def no_traits(network: Found) -> Traits:
    """Returns the traits that most networks have."""
    return Traits()


@dataclass(frozen=True)
class Layout:
    """The parts of a state dict, as the beginnings of its keys (regular expressions).

    Args:
        method: whose it is, for the card.
        networks: the beginning of each network's keys, by the name that `--network` takes. Of those
            that a file holds the first is kept.
        marks: each begins some key of such a file, and together they begin those of no other.
        heads: beginnings of keys beside the networks that are left behind.
        inside: the same, within a network.
        only_named: whether the format has to be named, since others have the same keys.
    """

    method: str
    networks: dict[str, str]
    marks: tuple[str, ...]
    heads: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    only_named: bool = False

    def fits(self, names: list[str]) -> bool:
        """Whether a state dict of these keys has this layout."""
        return all(any(re.match(mark, name) for name in names) for mark in self.marks)

    def part(self, prefix: str, names: list[str]) -> dict[str, str]:
        """The keys that begin so, without that beginning."""
        matches = ((name, re.match(prefix, name)) for name in names)
        return {name: name[match.end() :] for name, match in matches if match}

    def networks_in(self, names: list[str]) -> list[str]:
        """The names of the networks that a state dict of these keys holds."""
        return [network for network, prefix in self.networks.items() if self.part(prefix, names)]

    def strangers(self, names: list[str]) -> list[str]:
        """The keys that belong to no part of the layout."""
        known = re.compile("|".join(f"(?:{each})" for each in (*self.networks.values(), *self.heads)))
        return [name for name in names if not known.match(name)]

    def is_head(self, name: str) -> bool:
        """Whether a key of a network is left behind."""
        return any(re.match(each, name) for each in self.inside)


@dataclass(frozen=True)
class Format:
    """How a library writes its checkpoints.

    Args:
        library: its name, for people.
        layouts: of its methods; the first that fits a file is taken.
        state: the state dict of a file; None: it holds none of this format.
        renamed: a network's tensors under the names of timm.
        traits: what the tensors do not say.
        pooling: of a vision transformer, where the user does not say: "token" or "mean".
    """

    library: str
    layouts: tuple[Layout, ...]
    state: Callable[[Mapping[str, Any]], Tensors | None]
    renamed: Callable[[Tensors], Tensors] = same
    traits: Callable[[Found], Traits] = no_traits
    pooling: str = "token"
    settings: tuple[str, ...] = field(default=())
    """Names of JSON files beside the file that are read."""


def state_at(*path: str) -> Callable[[Mapping[str, Any]], Tensors | None]:
    """Returns what reads the state dict under these keys of a file, without the prefixes that
    wrappers of PyTorch write."""

    def state(checkpoint: Mapping[str, Any]) -> Tensors | None:
        value: Any = checkpoint
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return plain(value)

    return state


def first_of(*readers: Callable[[Mapping[str, Any]], Tensors | None]) -> Callable[[Mapping[str, Any]], Tensors | None]:
    """Returns what reads the first state dict that one of the readers sees."""
    return lambda checkpoint: next((state for read in readers if (state := read(checkpoint))), None)


def plain(value: Any) -> Tensors | None:
    """A state dict without the prefixes of wrappers, or None if it is not one."""
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()):
        return None
    tensors = dict(value)
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def parts(*names: str) -> Callable[[Mapping[str, Any]], Tensors | None]:
    """Returns what reads several state dicts of a file as one, whose keys begin with their
    names."""

    def state(checkpoint: Mapping[str, Any]) -> Tensors | None:
        inside = {name: plain(checkpoint.get(name)) for name in names}
        return {
            f"{name}.{key}": tensor for name, tensors in inside.items() for key, tensor in (tensors or {}).items()
        } or None

    return state
