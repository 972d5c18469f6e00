"""The protocols by name. None is imported before it is used, so that a wrong name does not wait for
torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ...plugins.messages import did_you_mean

if TYPE_CHECKING:
    from .base import Protocol, Target


class Known(NamedTuple):
    """A protocol: the module in this folder and the class, and the kind of target that it needs
    (`Needs.target`)."""

    where: str
    target: Target | None


PROTOCOLS = {
    "knn": Known("classes:KNN", "classes"),
    "linear": Known("classes:Linear", "classes"),
    "sgd": Known("sgd:SGD", "classes"),
    "retrieval": Known("retrieval:Retrieval", "classes"),
    "attentive": Known("attentive:Attentive", "classes"),
    "segmentation": Known("segmentation:Segmentation", "masks"),
    "tags": Known("tags:Tags", "tags"),
    "frames": Known("frames:Frames", "frames"),
    "multilabel": Known("multilabel:Multilabel", "multilabel"),
    "values": Known("values:Values", "values"),
}
OF_TOKENS = {"masks": ("masks",), "tags": ("tags", "tags_test"), "frames": ("frames",)}
"""The options that each kind of target of single tokens needs."""


def check_protocol(name: str) -> None:
    """Raises ValueError where there is no such protocol."""
    if name not in PROTOCOLS:
        raise ValueError(
            f"There is no protocol {name!r}.{did_you_mean(name, PROTOCOLS)} Protocols: {', '.join(PROTOCOLS)}."
        )


def protocol_class(name: str) -> type[Protocol]:
    """The class of a protocol.

    Raises:
        ValueError: there is none of that name.
    """
    check_protocol(name)
    module, _, cls = PROTOCOLS[name].where.partition(":")
    protocol: type[Protocol] = getattr(import_module(f".{module}", __package__), cls)
    return protocol
