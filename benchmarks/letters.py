"""Letters drawn in the fonts that matplotlib brings along: a set of pictures that any install can
make, judged on fonts that training has not seen."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.images.datamodule import ImageDataModule
from ssl_lightning.data.sources import InMemory, Source

LETTERS = "ABCDEFGHKLMNPRST"
FONTS = {
    "train": ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "STIXGeneralItalic",
              "STIXGeneralBol", "cmss10", "cmmi10"),
    "test": ("DejaVuSerif", "DejaVuSerif-BoldItalic", "STIXGeneral", "cmr10", "cmtt10", "cmb10"),
}  # fmt: skip
SIDE, EACH = 32, 20


@cache
def drawn(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [N, 1, 32, 32], uint8, and their letters [N]: `EACH` of each letter in each font,
    turned, moved, of varying size and contrast, on noise."""
    numbers = np.random.default_rng(split == "test")
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pictures, labels = [], []
    for name in FONTS[split]:
        for label, letter in enumerate(LETTERS):
            for _ in range(EACH):
                font = ImageFont.truetype(str(folder / f"{name}.ttf"), int(numbers.integers(12, 26)))
                canvas = Image.new("L", (SIDE, SIDE))
                place = tuple(SIDE / 2 + numbers.uniform(-4, 4, 2))
                ImageDraw.Draw(canvas).text(place, letter, fill=255, font=font, anchor="mm")
                turned = np.asarray(canvas.rotate(numbers.uniform(-25, 25), Image.Resampling.BILINEAR), np.float64)
                noisy = numbers.uniform(0.3, 1) * turned + numbers.normal(0, 25, turned.shape) + numbers.uniform(0, 60)
                pictures.append(noisy.clip(0, 255).astype(np.uint8))
                labels.append(label)
    return torch.from_numpy(np.stack(pictures))[:, None], torch.tensor(labels)


class Letters(ImageDataModule):
    """16 letters in 8 fonts to train on and 6 others to test on, grey, 32 x 32."""

    default_epochs = 60
    class_names = tuple(LETTERS)
    channels = 1
    policy = ImagePolicy(
        crop_scale=(0.5, 1.0), flip=0.0, rotation=12.0, jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, solarize_p=0.0,
        mean=(0.25,), std=(0.25,),
    )  # fmt: skip

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {"Encoder": {"class_path": "conv", "init_args": {"channels": 1}}}

    def source(self, split: Split) -> Source | None:
        return None if split == "val" else InMemory(*drawn(split))
