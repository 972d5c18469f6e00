"""The size of patches for an image."""

from __future__ import annotations


def patch_for(image_size: int) -> int:
    """Side of the patches for an image: the largest, of at most 16 pixels, that cuts it into 7 to
    32 patches a side.

    4 for 28 or 32 pixels, 8 for 64, 12 for 96, 16 for 224; 16 where none does, which an encoder
    then refuses.
    """
    return max(
        (patch for patch in range(1, 17) if image_size % patch == 0 and 7 <= image_size // patch <= 32), default=16
    )


def largest_patch(side: int) -> int:
    """The largest patch of at most 16 pixels that divides a side, for rectangles, whose sides are
    cut separately."""
    return max(patch for patch in range(1, 17) if side % patch == 0)
