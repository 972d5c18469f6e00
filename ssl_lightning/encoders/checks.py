"""The check of the input that all encoders of images share."""

from __future__ import annotations

from torch import Tensor

from ..types import View


def images_of(view: View, channels: int, smallest: int = 1) -> Tensor:
    """Checks that the view's images [B, C, H, W] fit the encoder, and returns them.

    Args:
        view: the view that the encoder received.
        channels: C that the encoder was built for.
        smallest: least height and width, in pixels.

    Raises:
        ValueError: the view holds something other than images, too small ones, or ones with
            another number of channels.
    """
    x = view.x
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"The encoder takes images [B, C, H, W] of floats, got {x.dtype} of shape {list(x.shape)}.")
    if x.shape[1] != channels:
        raise ValueError(
            f"The encoder takes {channels} channels, got images with {x.shape[1]}: set channels={x.shape[1]}."
        )
    if min(x.shape[2:]) < smallest:
        raise ValueError(
            f"The encoder takes images of at least {smallest}x{smallest} pixels, got {x.shape[2]}x{x.shape[3]}."
        )
    return x
