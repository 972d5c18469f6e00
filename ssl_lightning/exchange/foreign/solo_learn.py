"""solo-learn: all its methods lie alike, on ResNets and on vision transformers of timm."""

from __future__ import annotations

from .layout import Format, Found, Layout, Traits, state_at


def _traits(network: Found) -> Traits:
    """Its first convolution for CIFAR has 3x3 pixels, stride 1 and a padding of 2 pixels, and no
    max-pooling behind it (`solo/methods/base.py`)."""
    return Traits(padding=2, pool=None)


FORMAT = Format(
    library="solo-learn",
    layouts=(
        Layout(
            "one of solo-learn's methods",
            {"online": r"(encoder|backbone)\.", "momentum": r"momentum_(encoder|backbone)\."},
            marks=(r"(encoder|backbone)\.", r"classifier\."),
            heads=(
                r"(momentum_)?(projector|predictor|classifier|head|prototypes|decoder)\d*\.",
                r"queue",
                r"dino_loss_func\.",
                r"(mask_token|decoder_\w+)",
            ),
            inside=(r"fc\.", r"head\.", r"mask_token$", r"decoder"),
        ),
    ),
    state=state_at("state_dict"),
    traits=_traits,
)
