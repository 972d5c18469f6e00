"""The protocols by name. None is imported before it is used, so that a wrong name does not wait for
torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...plugins.messages import did_you_mean

if TYPE_CHECKING:
    from .base import Protocol

PROTOCOLS = {
    "knn": "classes:KNN",
    "linear": "classes:Linear",
}
"""The module in this folder, and the class, of each protocol."""


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
    module, _, cls = PROTOCOLS[name].partition(":")
    protocol: type[Protocol] = getattr(import_module(f".{module}", __package__), cls)
    return protocol
