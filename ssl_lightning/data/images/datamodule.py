"""The bases of datamodules for images: those of one size in memory, and encoded ones of any
size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment.image import SMALL, ImagePolicy
from ...augment.recipe import changed
from ...nn.patches import patch_for
from ...plugins.arguments import require
from ...types import Strength, ViewSpec
from ..datamodule import Describes, SSLDataModule, loading_lines
from ..files.source import check_unreadable
from .reading import Reading

RAW_SIZE = 32
"""Raw features are the pixels of images reduced to this side."""
LOCAL = 96 / 224
"""Side of a local crop as a part of a full view's (SwAV, arXiv 2006.09882, Section 4.1; DINO, arXiv
2104.14294, Section 3.1)."""


class ImageDataModule(SSLDataModule):
    """A data set of images: an author sets `policy` and defines `source`, whose samples are uint8
    images [S, C, H, W], or floating ones in [0, 1], or `Pictures` of any size.

    Args:
        image_size: side of a view, in pixels.
        augmentation: changes to the data set's recipe, by the names of the fields of `ImagePolicy`.
    """

    policy: ClassVar[ImagePolicy] = ImagePolicy()
    """The recipe of augmentation."""
    channels: int = 3
    """C of the images."""
    varying: ClassVar[bool] = False
    """Whether the images differ in size: `source` then fetches `Pictures`."""
    serves_local = True

    def __init__(self, *, image_size: int = 32, augmentation: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(self, at_least=8, image_size=image_size)
        self.image_size = image_size
        self.recipe = changed(self.policy, augmentation or {})
        try:
            for strength in ("none", "strong_a", "strong_b"):
                self.transform(strength)  # refuses what the recipe cannot be made of
        except ValueError as error:
            raise ValueError(f"augmentation={augmentation} does not fit: {error}") from error

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The class's own defaults, or a ResNet-18 with the stem that suits the images' size, and a
        ViT-Tiny with the patch that does."""
        size, channels = init_args.get("image_size", RAW_SIZE), init_args.get("channels", cls.channels)
        size = size if isinstance(size, int) else RAW_SIZE  # anything else the parser refuses
        resnet = {"name": "resnet18", "small_images": size <= SMALL, "channels": channels}
        vit = {"name": "vit_tiny_patch16_224", "channels": channels, "image_size": size, "patch_size": patch_for(size)}
        kinds = {"Encoder": ("timm", resnet), "TokenEncoder": ("vit", vit)}
        return {
            kind: {"class_path": path, "init_args": args} for kind, (path, args) in kinds.items()
        } | cls.default_encoders

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for.

        Raises:
            ValueError: this data has no such views, fewer samples than a batch, or a probe set of
                other channels.
        """
        super().serve(method)
        for name, data in self.probe_sets.items():
            if isinstance(data, ImageDataModule) and data.channels != self.channels:
                raise ValueError(
                    f"probe_sets.{name}: {type(data).__name__} has images of {data.channels}"
                    f" channel{'s' * (data.channels != 1)}, {type(self).__name__} of {self.channels}, and one encoder"
                    " takes both. Files are brought to 1 or 3 by `channels`."
                )

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.recipe.build(
            strength, local_size or self.image_size, local=local_size is not None, varying=self.varying
        )

    def local_size(self, spec: ViewSpec) -> int:
        """The size asked for, or about 3/7 of a full view: a whole number of the patches that suit
        it, so that transformers take both."""
        patch = patch_for(self.image_size)
        return spec.local_size or max(8, round(self.image_size * LOCAL / patch) * patch)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Views [S, C, H, W] as one would look at them: in [0, 1], without the normalisation."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.recipe.mean, self.recipe.std))
        return (x.float() * std + mean).clamp(0, 1)

    def how_to_load(self, folder: Path, dim: int) -> str:
        return loading_lines(folder, dim, "images")

    def raw_features(self, raw: Any) -> Tensor:
        """The pixels [S, D], of images above 32 pixels after their reduction to that size."""
        pixels: Tensor = self.transform("none")(raw, torch.zeros(len(raw), dtype=torch.int64))
        return (F.adaptive_avg_pool2d(pixels, RAW_SIZE) if self.image_size > RAW_SIZE else pixels).flatten(1)


class PictureDataModule(ImageDataModule):
    """Encoded images of any size, mode and depth: an author defines `source`, whose samples come
    from `self.pictures`.

    Args:
        image_size: side of a view, in pixels.
        channels: 1 for grey, 3 for colour, to which every image is brought; another number is for
            images that have it.
        window: the pixel values that become 0 and 1, with what is below and above cut off: for
            images of more than 8 bits.
        percentiles: the percentiles of each image's own values that become 0 and 1, instead of a
            window.
        max_pixels: an image that says it has more is refused before it is read.
        unreadable: `raise` stops at an image that cannot be read; `skip` takes another one in its
            place, always the same.
        max_unreadable: the part of the images that may be skipped; more stop the run.
    """

    varying = True
    policy = ImagePolicy(jitter=(0.8, 0.8, 0.8, 0.2), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    """SimCLR's recipe for ImageNet (arXiv 2002.05709, Appendix A), normalised by ImageNet's mean
    and deviation."""

    def __init__(
        self,
        *,
        image_size: int = 224,
        channels: int = 3,
        window: tuple[float, float] | None = None,
        percentiles: tuple[float, float] | None = None,
        max_pixels: int = 200_000_000,
        unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: float = 0.01,
        **kwargs: Any,
    ) -> None:
        if channels != 3:
            kwargs["augmentation"] = {"mean": [0.5], "std": [0.25], **(kwargs.get("augmentation") or {})}
        super().__init__(image_size=image_size, **kwargs)
        check_unreadable(unreadable, max_unreadable, "images")
        self.reading = Reading(channels, _pair(window), _pair(percentiles), max_pixels)
        self.channels, self.unreadable, self.max_unreadable = channels, unreadable, max_unreadable


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))
