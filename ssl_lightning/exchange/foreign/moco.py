"""The authors' MoCo v1, v2 and v3 (facebookresearch/moco, moco-v3)."""

from __future__ import annotations

from .layout import Format, Found, Layout, Traits, state_at


def _traits(network: Found) -> Traits:
    """The small vision transformer of MoCo v3 has 12 heads, not 6 (`vits.py`)."""
    token = network.tensors.get("cls_token")
    return Traits(heads=12 if token is not None and token.shape[-1] == 384 else None)


FORMAT = Format(
    library="the authors' MoCo",
    layouts=(
        Layout(
            "MoCo v1 or v2",
            {"query": r"encoder_q\.", "key": r"encoder_k\."},
            marks=(r"encoder_q\.",),
            heads=(r"queue(_ptr)?$",),
            inside=(r"fc\.",),
        ),
        Layout(
            "MoCo v3",
            {"base": r"base_encoder\.", "momentum": r"momentum_encoder\."},
            marks=(r"base_encoder\.",),
            heads=(r"predictor\.",),
            inside=(r"fc\.", r"head\."),
        ),
    ),
    state=state_at("state_dict"),
    traits=_traits,
)
