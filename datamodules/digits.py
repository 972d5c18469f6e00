"""Scikit-learn's handwritten digits, for a first run and for tests; they need no download."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.images.datamodule import ImageDataModule
from ssl_lightning.data.sources import InMemory, Source, Subset, stratified_split

TEST_SAMPLES = 397


class Digits(ImageDataModule):
    """Handwritten digits that come with scikit-learn: 1,797 grey images of 8x8, 10 classes, no
    download.

    1,400 train and 397 test samples, a stratified split fixed by seed 0; the live probes are judged
    on 200 of the 1,400. Views are cropped, rotated and sheared a little and never flipped, so that
    a digit stays a digit. Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten
    Digits, UCI.

    Args:
        image_size: side length of a view in pixels, to which the 8x8 images are enlarged.
        augmentation: changes to the recipe, by the names of the fields of `ImagePolicy`.
    """

    default_epochs = 100
    class_names = tuple("0123456789")
    channels = 1
    policy = ImagePolicy(
        crop_scale=(0.5, 1.0), local_crop_scale=(0.3, 0.7), flip=0.0, rotation=12.0, shear=10.0,
        jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, solarize_p=0.0, mean=(0.306,), std=(0.376,),
    )  # fmt: skip

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns small networks that learn in a minute or two on two cores; the tokens are 16
        patches, each of 2x2 original pixels."""
        vit = super().suited_encoders(init_args)["TokenEncoder"]
        size = vit["init_args"]["image_size"]
        vit["init_args"].update(dim=96, depth=4, heads=3, **({"patch_size": size // 4} if size % 4 == 0 else {}))
        return {"Encoder": {"class_path": "conv", "init_args": {"channels": 1}}, "TokenEncoder": vit}

    def __init__(self, *, image_size: int = 16, **kwargs: Any) -> None:
        super().__init__(image_size=image_size, **kwargs)

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        pixels, labels = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
        target = torch.from_numpy(labels)
        train, test = stratified_split(target, TEST_SAMPLES)
        return Subset(InMemory(images, target), train if split == "train" else test)
