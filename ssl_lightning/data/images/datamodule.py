"""The base classes of datamodules for images: images of one size in memory, and encoded images of
any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment.image import SMALL, ImagePolicy
from ...augment.recipe import changed
from ...nn.patches import patch_for
from ...plugins.arguments import require
from ...types import Strength, View, ViewSpec
from ..datamodule import RAW_SIZE, Describes, SSLDataModule
from ..files.source import check_unreadable
from ..given import Given
from ..preparation import Preparation
from ..sources import Source
from .masks import masks_of
from .preparation import preparation_of
from .reading import Reading
from .settings import IMAGE, arguments_in, image_json
from .sides import sides_in

LOCAL = 96 / 224
"""Side length of a local crop as a fraction of a full view's (SwAV, arXiv 2006.09882, Section 4.1;
DINO, arXiv 2104.14294, Section 3.1)."""


class ImageDataModule(SSLDataModule):
    """A data set of images: an author sets `policy` and defines `source`, whose samples are uint8
    images [S, C, H, W], floating-point images in [0, 1], or `Pictures` of any size.

    Args:
        image_size: side length of a view, in pixels.
        augmentation: changes to the data set's recipe, by the names of the fields of `ImagePolicy`.
    """

    policy: ClassVar[ImagePolicy] = ImagePolicy()
    """The recipe of augmentation."""
    channels: int = 3
    """C of the images."""
    varying: ClassVar[bool] = False
    """Whether the images differ in size; `source` then fetches `Pictures`."""
    serves_local = True
    example_items = '["a.png", "b.png"]'
    empty_remedy = " If the originals show something, weaken --data.augmentation, such as its crop_scale."

    def __init__(self, *, image_size: int = 32, augmentation: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(self, at_least=8, image_size=image_size)
        self.image_size = image_size
        self.recipe = changed(self.policy, augmentation or {})
        self.resolve("augmentation", asdict(self.recipe))
        try:
            for strength in ("none", "strong_a", "strong_b"):
                self.transform(strength)  # raises where the recipe cannot be built
        except ValueError as error:
            raise ValueError(f"augmentation={augmentation} does not fit: {error}") from error

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns the class's own defaults, or a ResNet-18 whose stem, and a ViT-Tiny whose patch,
        suits the size of the images."""
        size, channels = init_args.get("image_size", RAW_SIZE), init_args.get("channels", cls.channels)
        size = size if isinstance(size, int) else RAW_SIZE  # the parser refuses any other value
        resnet = {"name": "resnet18", "small_images": size <= SMALL, "channels": channels}
        vit = {"name": "vit_tiny_patch16_224", "channels": channels, "image_size": size, "patch_size": patch_for(size)}
        kinds = {"Encoder": ("timm", resnet), "TokenEncoder": ("vit", vit)}
        return {
            kind: {"class_path": path, "init_args": args} for kind, (path, args) in kinds.items()
        } | cls.default_encoders

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for.

        Raises:
            ValueError: this data does not have such views, has fewer samples than a batch, or has a
                probe set whose images have another number of channels.
        """
        super().serve(method)
        for name, data in self.probe_sets.items():
            if isinstance(data, ImageDataModule) and data.channels != self.channels:
                raise ValueError(
                    f"probe_sets.{name}: {type(data).__name__} has images of {data.channels}"
                    f" channel{'s' * (data.channels != 1)}, {type(self).__name__} of {self.channels}, but one encoder"
                    " reads both. Convert images in files to 1 or 3 with `channels`."
                )

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.recipe.build(
            strength, local_size or self.image_size, local=local_size is not None, varying=self.varying
        )

    def local_size(self, spec: ViewSpec) -> int:
        """Returns the size that the method requests, or about 3/7 of a full view: a whole number of
        the patches that suit the view, so that transformers take both."""
        patch = patch_for(self.image_size)
        return spec.local_size or max(8, round(self.image_size * LOCAL / patch) * patch)

    def artifacts(self) -> dict[str, str]:
        return {IMAGE: image_json(self)}

    def preparation(self) -> Preparation:
        return preparation_of(self)

    @classmethod
    def of_items(cls) -> type[Given]:
        from .given import GivenImages  # here: it is built of this class

        return GivenImages

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        return arguments_in(artifacts[IMAGE], cls.policy) if IMAGE in artifacts else {}

    def difference(self, artifacts: Mapping[str, str]) -> str:
        """Returns nothing: fine-tuning at another size or with other augmentations is common, and
        an encoder says itself if it does not take the channels."""
        return ""

    def as_pictures(self, x: Tensor) -> Tensor:
        """Returns views [S, C, H, W] as images to look at: in [0, 1], without the normalisation."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.recipe.mean, self.recipe.std))
        return (x.float() * std + mean).clamp(0, 1)

    def masks_of(self, source: Source, index: Tensor, folder: Path) -> Sequence[Tensor]:
        return masks_of(source, index, folder, self.place, self.image_size)

    def advice(self, views: Sequence[View]) -> list[str]:
        lines, flip = super().advice(views), self.recipe.flip
        why = sides_in(self.class_names or ()) if self.policy.flip else "the data's own recipe mirrors none"
        if flip and why:
            lines.append(
                f"{100 * flip:.0f} % of the views are mirrored, and {why}: if mirrored ones mean something else, set"
                " --data.augmentation.flip 0."
            )
        return lines

    def raw_features(self, raw: Any) -> Tensor:
        """Returns the pixels [S, D]; images larger than 32 pixels are first reduced to that
        size."""
        pixels: Tensor = self.transform("none")(raw, torch.zeros(len(raw), dtype=torch.int64))
        return (F.adaptive_avg_pool2d(pixels, RAW_SIZE) if self.image_size > RAW_SIZE else pixels).flatten(1)


class PictureDataModule(ImageDataModule):
    """Encoded images of any size, mode and depth: an author defines `source`, which returns a
    `PictureSource` read by `self.reading`.

    Args:
        image_size: side length of a view, in pixels.
        channels: 1 for grey, 3 for colour, to which every image is converted; any other number
            needs images that have it.
        window: the pixel values that become 0 and 1, for images of more than 8 bits; values beyond
            them are clamped.
        percentiles: the percentiles of each image's own values that become 0 and 1, instead of a
            window.
        max_pixels: an image whose header declares more is refused before it is read.
        unreadable: `raise` stops at an image that cannot be read; `skip` replaces it by another
            one, always the same.
        max_unreadable: the fraction of the images that may be skipped; more stop the run.
    """

    varying = True
    empty_remedy = (
        " If the originals show nothing either, set --data.window or --data.percentiles; else weaken"
        " --data.augmentation, such as its crop_scale."
    )
    policy = ImagePolicy(jitter=(0.8, 0.8, 0.8, 0.2), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    """SimCLR's recipe for ImageNet (arXiv 2002.05709, Appendix A), normalised by ImageNet's mean
    and standard deviation."""

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
