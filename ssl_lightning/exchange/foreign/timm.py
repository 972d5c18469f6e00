"""timm and torchvision: a model's own state dict, with its classifier or without."""

from __future__ import annotations

from .layout import Format, Layout, first_of, plain, state_at
from .naming import of_vit, with_registers

CLASSIFIER = (r"(fc|head\.fc|head|heads\.head|head\.l|classifier)\.(weight|bias)$",)

FORMAT = Format(
    library="timm or torchvision",
    layouts=(
        Layout(
            "a whole model",
            {"model": r"(?!mask_token|register_tokens|decoder)"},
            marks=(r"(layer1\.0\.conv1\.|blocks\.0\.attn\.|encoder\.layers\.encoder_layer_0\.)",),
            inside=CLASSIFIER,
        ),
        Layout("a whole model", {"model": r""}, marks=(), inside=CLASSIFIER, only_named=True),
    ),
    state=first_of(state_at("state_dict"), state_at("state_dict_ema"), state_at("model"), plain),
    renamed=lambda tensors: with_registers(of_vit(tensors)),
)
