"""The authors' MAE (facebookresearch/mae)."""

from __future__ import annotations

from .layout import Format, Layout, state_at

FORMAT = Format(
    library="the authors' MAE",
    layouts=(
        Layout(
            "MAE",
            {"encoder": r"(?!decoder|mask_token)"},
            marks=(r"decoder_embed\.", r"patch_embed\.proj\."),
            heads=(r"decoder_", r"mask_token$"),
        ),
        Layout(
            "MAE's encoder",
            {"encoder": r""},
            marks=(r"patch_embed\.proj\.",),
            only_named=True,
        ),
    ),
    state=state_at("model"),
)
