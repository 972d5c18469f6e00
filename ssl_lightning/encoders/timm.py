"""Models of timm serve as encoders of images or spectrograms."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..types import View
from .timm_model import VIT, TimmModel, build, check_name, family, fix_positions, start_patches, takes_positions


class TimmEncoder(TimmModel):
    """A timm model (Wightman 2019, doi 10.5281/zenodo.4414861) without its classifier: pooled
    features [S, dim].

    Weights are kept in `channels_last`, which the activations follow: 1.2 times faster for a
    ResNet-18 on a CPU.

    Args:
        name: one of `timm.list_models()`, with or without a tag: "resnet18",
            "vit_small_patch16_224.augreg_in1k".
        small_images: the ResNet for CIFAR of SimCLR (Chen et al. 2020, arXiv 2002.05709, Appendix
            B.9): the first convolution is 3x3 with stride 1 and starts anew even if `pretrained`,
            and max-pooling is left out.
        channels: C of the images; timm folds pretrained first layers to fit.
        image_size: side of the images in pixels, or height and width, for the families that depend
            on it (vision transformers, Swin, MLP-Mixer).
        patch_size: side of a patch in pixels, or height and width, for the families that cut images
            into patches.
        dynamic_image_size: whether a vision transformer also takes images of other sizes, such as
            local views: its positions are interpolated to them.
        pretrained: whether to start from timm's weights, downloaded once. Off when a checkpoint
            rebuilds the encoder.
        position: of a vision transformer's patches: "learned", or "sincos", as in MoCo v3 (Chen et
            al. 2021, arXiv 2104.02057): fixed sines and cosines of row and column, and first
            weights by Xavier's rule, of the patch projection too.
        drop_path_rate: stochastic depth (Huang et al. 2016, arXiv 1603.09382), the rate of the last
            block.

    Raises:
        ValueError: the name is unknown, or its family does not take an argument; in `forward`, the
            images have other channels or another size than the model was built for.
    """

    def __init__(
        self,
        name: str,
        *,
        small_images: bool = False,
        channels: int = 3,
        image_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
        dynamic_image_size: bool = False,
        pretrained: bool = False,
        position: Literal["learned", "sincos"] = "learned",
        drop_path_rate: float = 0.0,
    ) -> None:
        check_name(name)
        if position not in ("learned", "sincos"):
            raise ValueError(f"TimmEncoder(position={position!r}) is unknown; choose learned or sincos.")
        if position == "sincos":
            _check_position(name, pretrained)
        if small_images:
            _check_small_images(name)
        options = {
            "img_size": image_size,
            "patch_size": patch_size,
            "dynamic_img_size": dynamic_image_size or None,
            "drop_path_rate": drop_path_rate or None,
            "weight_init": "moco" if position == "sincos" else None,
        }
        model = build("TimmEncoder", name, channels, pretrained, options)
        if small_images:
            model.conv1 = nn.Conv2d(channels, model.bn1.num_features, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
            model.maxpool = nn.Identity()
        if position == "sincos":
            start_patches(model)
            fix_positions(model)
        super().__init__(model, channels)

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        return self.model(self.images(view))


def _check_position(name: str, pretrained: bool) -> None:
    if not takes_positions(name):
        raise ValueError(
            f"TimmEncoder({name!r}, position='sincos'): {type(family(name)).__name__} has no learned positions of"
            f" patches to replace; leave it out, or choose a vision transformer such as {VIT}."
        )
    if pretrained:
        raise ValueError("TimmEncoder(pretrained=True): the weights belong to learned positions; set position=learned.")


def _check_small_images(name: str) -> None:
    from timm.models.resnet import ResNet

    model = family(name)
    if not isinstance(model, ResNet):
        raise ValueError(
            f"TimmEncoder({name!r}, small_images=True): {type(model).__name__} has no ResNet stem to replace; "
            "leave small_images out, or choose a ResNet such as resnet18."
        )
