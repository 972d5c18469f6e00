"""Any model of timm, as an encoder of images or spectrograms."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lightning.encoder import Encoder
from ssl_lightning.types import View

from .images import images_of

# The keyword of timm's constructors -> our argument, and a model that takes it, for the message.
_OPTIONS = {
    "img_size": ("image_size", "vit_tiny_patch16_224"),
    "patch_size": ("patch_size", "vit_tiny_patch16_224"),
    "drop_path_rate": ("drop_path_rate", "resnet18"),
}


class TimmEncoder(Encoder):
    """A timm model (Wightman 2019, doi 10.5281/zenodo.4414861) without its classifier: pooled features [S, dim].

    Weights are kept in `channels_last`, which the activations follow: 1.2 times faster for a ResNet-18 on a CPU.

    Args:
        name: what `timm.list_models()` shows, with or without a tag: "resnet18", "vit_small_patch16_224.augreg_in1k".
        small_images: the ResNet for CIFAR of SimCLR (Chen et al. 2020, arXiv 2002.05709, Appendix B.9): the first
            convolution is 3x3 with stride 1 and starts anew even if `pretrained`, and there is no max-pooling.
        channels: C of the images; timm folds pretrained first layers to fit.
        image_size: side of the images in pixels, for the families that must know it (vision transformers, Swin, MLP-Mixer).
        patch_size: side of a patch in pixels, for the families that cut images into patches.
        pretrained: whether to start from timm's weights, downloaded once. Off when a checkpoint rebuilds the encoder.
        drop_path_rate: stochastic depth (Huang et al. 2016, arXiv 1603.09382), the rate of the last block.

    Raises:
        ValueError: the name is unknown, or its family does not take an argument; in `forward`, the images have other
            channels or another size than the model was built for.
    """

    def __init__(
        self,
        name: str,
        *,
        small_images: bool = False,
        channels: int = 3,
        image_size: int | None = None,
        patch_size: int | None = None,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"TimmEncoder(channels={channels}): must be at least 1.")
        options = {"img_size": image_size, "patch_size": patch_size, "drop_path_rate": drop_path_rate or None}
        options = {option: value for option, value in options.items() if value is not None}
        self.model = _timm_model(name, pretrained, channels, options, small_images)
        self.channels = channels
        self.dim = int(self.model.head_hidden_size)  # `num_features` is the width before a head's own hidden layer
        self.to(memory_format=torch.channels_last)

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The weights come from the checkpoint."""
        return {**init_args, "pretrained": False}

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        return self.model(self._images(view))

    def no_weight_decay(self) -> set[str]:
        """The parameters that the model's authors keep free of weight decay, besides biases and norms."""
        patterns = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else ()
        names = [name for name, _ in self.model.named_parameters()]
        return {f"model.{name}" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}

    def _images(self, view: View) -> Tensor:
        x = images_of(view, self.channels)
        patches = getattr(self.model, "patch_embed", None)
        size = getattr(patches, "img_size", None) if getattr(patches, "strict_img_size", False) else None
        if size is not None and tuple(x.shape[2:]) != tuple(size):
            raise ValueError(
                f"The encoder takes images of {size[0]}x{size[1]} pixels, got {x.shape[2]}x{x.shape[3]}: set its image_size={x.shape[2]}, or the data's."
            )
        return x


def _timm_model(name: str, pretrained: bool, channels: int, options: dict[str, Any], small_images: bool) -> Any:
    import timm  # here: 1 s that only those pay who build one

    _check_name(name)
    if small_images:
        _check_small_images(name)
    for option, value in options.items():
        _check_option(name, option, value)
    model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **options)
    if small_images:
        model.conv1 = nn.Conv2d(channels, model.bn1.num_features, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


def _check_name(name: str) -> None:
    import timm

    tagged = timm.list_pretrained() if timm.is_model(name) and "." in name else []
    if timm.is_model(name) and ("." not in name or name in tagged):
        return
    near = get_close_matches(name, tagged or timm.list_models(), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() shows all."
    raise ValueError(f"timm has no model {name!r}. {hint}")


def _check_small_images(name: str) -> None:
    from timm.models.resnet import ResNet

    family = _family(name)
    if not issubclass(family, ResNet):
        raise ValueError(
            f"TimmEncoder({name!r}, small_images=True): {family.__name__} has no ResNet stem to replace; "
            "leave small_images out, or choose a ResNet such as resnet18."
        )


def _check_option(name: str, option: str, value: Any) -> None:
    try:
        _family(name, **{option: value})
    except TypeError as error:  # timm's own refusal of an unknown keyword, or of one that the model's function has fixed
        argument, example = _OPTIONS[option]
        raise ValueError(
            f"TimmEncoder({name!r}, {argument}={value}): {name} takes no {argument}; leave it out, or choose {example}."
        ) from error


def _family(name: str, **options: Any) -> type[nn.Module]:
    """The class of a model, built without memory and without a download."""
    import timm

    with torch.device("meta"):
        return type(timm.create_model(name, num_classes=0, **options))
