"""The authors' DINO and DINOv2 (facebookresearch/dino, dinov2): a run's checkpoints, and the
backbones that they published."""

from __future__ import annotations

from .layout import Format, Layout, Tensors, first_of, parts, plain
from .naming import by_rules, of_vit, with_registers

INSIDE = (r"mask_token$", r"masked_embed$", r"head\.", r"fc\.")


def _renamed(tensors: Tensors) -> Tensors:
    """DINOv2 trains with blocks in chunks: `blocks.0.3.` is block 3."""
    return with_registers(of_vit(by_rules(tensors, ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),))))


FORMAT = Format(
    library="the authors' DINO",
    layouts=(
        Layout(
            "DINO",
            {
                "teacher": r"teacher\.(module\.)?backbone\.",
                "student": r"student\.(module\.)?backbone\.",
            },
            marks=(r"(teacher|student)\.(module\.)?backbone\.",),
            heads=(r"(teacher|student)\.(module\.)?(head|dino_head|ibot_head)\.",),
            inside=INSIDE,
        ),
        Layout("DINOv2's backbone", {"backbone": r""}, marks=(r"blocks\.0\.", r"mask_token$"), inside=INSIDE),
        Layout(
            "DINO's backbone",
            {"backbone": r""},
            marks=(r"(blocks\.0\.|layer1\.0\.)",),
            inside=INSIDE,
            only_named=True,
        ),
    ),
    state=first_of(parts("teacher", "student"), plain),
    renamed=_renamed,
)
