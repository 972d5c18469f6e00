"""Wrong names are told before torch and Lightning are imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ..encoders.timm_names import names as timm_names
from ..encoders.timm_names import no_model
from ..plugins.gate import LOADER, PACKAGE, refuse_twice
from ..plugins.messages import did_you_mean
from .names import KINDS, Names, UsageError
from .request import read_request


def check_names(argv: Sequence[str]) -> None:
    """Looks up each name in a command line and its configs, without importing what it names.

    Raises:
        RegistryError: a name is not installed, or is claimed twice.
        UsageError: there is no such command or encoder, or a config cannot be read.
    """
    names = Names(_load)
    chosen = read_request(argv, names).chosen
    ours = all(str(chosen.get(key, PACKAGE)).startswith(PACKAGE) for key in KINDS)
    known = timm_names() if names.taken_for_timm and ours else set()  # a stranger may register models with timm
    for name in names.taken_for_timm:
        if known and name.partition(".")[0] not in known:
            raise UsageError(f"{no_model(name, sorted(known))}{did_you_mean(name, names.registries['encoders'])}")


def _load(text: str) -> Any:
    refuse_twice(text)
    return yaml.load(text, LOADER)
