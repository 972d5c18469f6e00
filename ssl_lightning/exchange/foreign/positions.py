"""A vision transformer's positions for images of another size."""

from __future__ import annotations

from .layout import Tensors


def resized(tensors: Tensors, size: int | None) -> tuple[Tensors, list[str]]:
    """Interpolates the positions of a vision transformer to images of a size in pixels, as timm
    does: bicubic, with antialiasing.

    Returns:
        The tensors, and what is to be said of them: other libraries interpolate by other rules, so
        that the features differ a little from theirs at that size.

    Raises:
        ValueError: the size is not a multiple of the patch's.
    """
    projection, positions = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if size is None or projection is None or positions is None or positions.ndim != 3:
        return tensors, []
    from timm.layers.pos_embed import resample_abs_pos_embed

    rows, columns = projection.shape[2:]
    if size % rows or size % columns:
        raise ValueError(f"--image-size {size} is not a multiple of the patches, which are {rows}x{columns} pixels.")
    prefix = int("cls_token" in tensors and "reg_token" not in tensors)
    side = round((positions.shape[1] - prefix) ** 0.5)
    new = [size // rows, size // columns]
    if [side, side] == new:
        return tensors, []
    moved = resample_abs_pos_embed(positions, new, [side, side], num_prefix_tokens=prefix)
    note = f"positions interpolated from {side}x{side} to {new[0]}x{new[1]} patches, by timm's rule"
    return {**tensors, "pos_embed": moved}, [note]
