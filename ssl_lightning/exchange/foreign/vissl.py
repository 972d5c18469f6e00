"""VISSL: the trunk of its models, a ResNet or a vision transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layout import Format, Layout, Tensors, parts


def _state(checkpoint: Mapping[str, Any]) -> Tensors | None:
    value: Any = checkpoint
    for key in ("classy_state_dict", "base_model", "model"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return parts("trunk", "heads")(value) if isinstance(value, Mapping) else None


FORMAT = Format(
    library="VISSL",
    layouts=(
        Layout(
            "one of VISSL's methods",
            {"trunk": r"trunk\.(_feature_blocks\.|base_model\._feature_blocks\.)?"},
            marks=(r"trunk\.",),
            heads=(r"heads\.",),
        ),
    ),
    state=_state,
)
