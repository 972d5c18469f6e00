"""What all encoders around a timm model share: its names, its sizes, and the properties of its
family."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.patches import largest_patch, patch_for
from ..nn.positions import sincos_positions
from ..plugins.arguments import require
from ..types import View
from .base import Encoder
from .checks import images_of
from .timm_names import no_model

VIT = "vit_tiny_patch16_224"
# The keyword of timm's constructors -> our argument, and a model that takes it, for the message.
_OPTIONS = {
    "img_size": ("image_size", VIT),
    "patch_size": ("patch_size", VIT),
    "dynamic_img_size": ("dynamic_image_size", VIT),
    "drop_path_rate": ("drop_path_rate", "resnet18"),
}


class TimmModel(Encoder):
    """The base of encoders that hold a model of timm, with all that depends on the model's family.

    Args:
        model: a model without a classifier.
        channels: C of the images.
    """

    model: Any

    def __init__(self, model: Any, channels: int) -> None:
        super().__init__()
        self.model, self.channels = model, channels
        self.dim = int(model.head_hidden_size)  # `num_features` is the width before a head's own hidden layer
        self.to(memory_format=torch.channels_last)

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The weights come from the checkpoint."""
        return {**init_args, "pretrained": False}

    @classmethod
    def suited_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Adapts the arguments of a model to images of `image_size` pixels, which is dropped for a
        model that does not project patches.

        Where no `patch_size` is given, the model's stays if it cuts the image into at least 7
        patches a side; else it becomes the largest, of at most 16 pixels, that cuts the image into
        7 to 32 patches a side. A `position` is dropped where the model or its weights come with
        another.
        """
        from timm import is_model

        name, size = init_args.get("name", VIT), init_args.get("image_size")
        fixed = not init_args.get("pretrained") and isinstance(name, str) and is_model(name) and takes_positions(name)
        init_args = {key: value for key, value in init_args.items() if fixed or key != "position"}
        if isinstance(size, list | tuple):
            return _suited_to_rectangles(init_args, name)
        if not isinstance(size, int):
            return init_args
        patches = patches_of(family(name)) if isinstance(name, str) and is_model(name) else None
        if patches is None or not _takes(name, img_size=size):
            return {key: value for key, value in init_args.items() if key != "image_size"}
        default = patches.patch_size[0]
        if init_args.get("patch_size") is None and (size % default or size // default < 7):
            patch = patch_for(size)
            return {**init_args, "patch_size": patch} if _takes(name, img_size=size, patch_size=patch) else init_args
        return init_args

    def adapt(self, weights: dict[str, Tensor], other: Encoder) -> dict[str, Tensor]:
        """Interpolates learned positions of patches to this model's grid, as timm does; fixed ones
        are its own. Filters of the first layer are summed or repeated for other channels."""
        weights = dict(weights)
        if isinstance(other, TimmModel) and type(other.model) is type(self.model):
            _fit_positions(weights, self.model, other.model, self.init_args.get("position") == "sincos")
            _fit_channels(weights, self.model, self.channels)
        return weights

    @property
    def patch_embedding(self) -> nn.Module | None:
        """The linear projection of patches; None where there is none."""
        embedding: nn.Module | None = patches_of(self.model)
        return embedding

    def no_weight_decay(self) -> set[str]:
        """The parameters that the model's authors exempt from weight decay, besides biases and
        norms."""
        patterns = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else ()
        names = [name for name, _ in self.model.named_parameters()]
        return {f"model.{name}" for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The model's layers as its family names them, without those of its head."""
        from timm.models import group_parameters

        if not hasattr(self.model, "group_matcher"):
            return super().layer_groups()
        classifier = ("a classifier", None)  # no family knows this name: it comes where a head would
        named: Any = SimpleNamespace(named_parameters=lambda: iter([*self.model.named_parameters(), classifier]))
        groups = group_parameters(named, self.model.group_matcher(coarse=False), return_values=True)
        return [groups[number] for number in sorted(groups) if groups[number][-1] is not None]

    def images(self, view: View) -> Tensor:
        """Checks that the view's images [S, C, H, W] fit the model, and returns them."""
        x = images_of(view, self.channels)
        height, width = x.shape[2:]
        patches = getattr(self.model, "patch_embed", patches_of(self.model))
        size = getattr(patches, "img_size", None) if getattr(patches, "strict_img_size", False) else None
        if size is not None and (height, width) != tuple(size):
            local = hasattr(self.model, "dynamic_img_size") and height < size[0]
            raise ValueError(
                f"The encoder takes images of {size[0]}x{size[1]} pixels, got {height}x{width}: set its"
                f" image_size={height}, or the data's"
                + ("; or, for local views beside the full ones, its dynamic_image_size=true." if local else ".")
            )
        if getattr(self.model, "dynamic_img_size", False) and (patches := patches_of(self.model)):
            rows, columns = patches.patch_size
            if height % rows or width % columns:
                raise ValueError(
                    f"The encoder cuts images into patches of {rows}x{columns} pixels, which {height}x{width} is not"
                    " a multiple of."
                )
        return x


def _suited_to_rectangles(init_args: dict[str, Any], name: Any) -> dict[str, Any]:
    """Drops the images' height and width where the model does not project patches; else adds
    patches that divide them, where none are given."""
    from timm import is_model

    rectangle = tuple(init_args["image_size"])
    if not (
        isinstance(name, str)
        and is_model(name)
        and patches_of(family(name)) is not None
        and _takes(name, img_size=rectangle)
    ):
        return {key: value for key, value in init_args.items() if key != "image_size"}
    if init_args.get("patch_size") is None:
        return {**init_args, "patch_size": [largest_patch(side) for side in rectangle]}
    return init_args


def build(owner: str, name: str, channels: int, pretrained: bool, options: dict[str, Any]) -> Any:
    """Builds a model of timm without its classifier.

    Args:
        owner: the class that is being built, for the messages.
        name: of the model.
        channels: C of the images.
        pretrained: whether to load timm's weights.
        options: keywords of timm's constructor; None: the model's default.

    Raises:
        ValueError: the model does not take an option, its patches do not fill the image, or there
            are no weights that fit.
    """
    import timm  # here, since it takes 1 s

    require(owner, at_least=1, channels=channels)
    for option in ("img_size", "patch_size", "embed_dim", "num_heads", "depth"):
        for value in options[option] if isinstance(options.get(option), (list, tuple)) else [options.get(option)]:
            require(
                owner, at_least=1, at_most=100_000, **{_OPTIONS[option][0] if option in _OPTIONS else option: value}
            )
    require(owner, at_least=0, below=1, drop_path_rate=options.get("drop_path_rate"))
    options = {
        option: tuple(value) if isinstance(value, list) else value
        for option, value in options.items()
        if value is not None
    }
    refused = (
        []
        if _takes(name, **options)
        else [option for option in options if not _takes(name, **{option: options[option]})]
    )
    if refused:
        argument, example = _OPTIONS[refused[0]]
        value = options[refused[0]]
        raise ValueError(
            f"{owner}({name!r}, {argument}={value}): {name} takes no {argument}; leave it out, or choose {example}."
        )
    if {"img_size", "patch_size"} & options.keys():
        check_patches(owner, name, family(name, **options))
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{owner}({name!r}, pretrained=True): timm's weights cannot be loaded, or do not fit: {reason}"
        ) from error


def check_patches(owner: str, name: str, model: Any) -> None:
    """Refuses an image size that is not a multiple of the patch's: timm would cut off the rest."""
    patches = patches_of(model)
    for size, patch in zip(patches.img_size, patches.patch_size, strict=True) if patches else ():
        if size % patch:
            below = max(size // patch, 1) * patch
            raise ValueError(
                f"{owner}({name!r}, image_size={size}, patch_size={patch}): the image is not a whole number of patches;"
                f" choose image_size {below} or {below + patch}, or a patch_size that divides {size}."
            )


def patches_of(model: Any) -> Any:
    """A model's linear projection of patches, for images of one size; None: it does not have
    one."""
    from timm.layers.patch_embed import PatchEmbed

    patches = getattr(model, "patch_embed", getattr(model, "stem", None))  # MLP-Mixer calls it stem
    return patches if isinstance(patches, PatchEmbed) and patches.img_size is not None else None


def start_patches(model: Any) -> None:
    """Draws the patch projection's weights by Xavier's rule, as those of a linear layer, in place
    of a convolution's."""
    projection = model.patch_embed.proj
    bound = math.sqrt(6 / (projection.weight[0].numel() + len(projection.weight)))
    nn.init.uniform_(projection.weight, -bound, bound)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)


def takes_positions(name: str) -> bool:
    """Whether a model adds learned positions to a grid of patches, so that fixed ones can take
    their place."""
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    model = family(name)
    return (
        type(model) is VisionTransformer
        and type(model.patch_embed) is PatchEmbed
        and model.pos_embed is not None
        and model.embed_dim % 4 == 0
    )


def fix_positions(model: Any) -> None:
    """Replaces the learned positions by sines and cosines."""
    grid = model.patch_embed.grid_size
    prefix = model.pos_embed.shape[1] - grid[0] * grid[1]  # positions of the class token and registers
    with torch.no_grad():
        model.pos_embed[:, :prefix] = 0
        model.pos_embed[:, prefix:] = sincos_positions(grid, model.embed_dim)
    model.pos_embed.requires_grad_(False)


def _fit_positions(weights: dict[str, Tensor], model: Any, other: Any, fixed: bool) -> None:
    """Interpolates the positions among the weights of another model to the grid of this one, or
    leaves this one's in their place if they are fixed."""
    key = "model.pos_embed"
    mine, patches, others = getattr(model, "pos_embed", None), patches_of(model), patches_of(other)
    if mine is None or key not in weights or patches is None or others is None:
        return
    if patches.grid_size == others.grid_size:
        return
    if fixed:
        weights[key] = mine.detach()
    else:
        from timm.layers.pos_embed import resample_abs_pos_embed

        prefix = mine.shape[1] - math.prod(patches.grid_size)
        new, old = list(patches.grid_size), list(others.grid_size)
        weights[key] = resample_abs_pos_embed(weights[key], new, old, num_prefix_tokens=prefix)


def _fit_channels(weights: dict[str, Tensor], model: Any, channels: int) -> None:
    """Adapts the filters of the first layer among the weights to images of so many channels."""
    from timm.models import adapt_input_conv

    first = getattr(model, "default_cfg", {}).get("first_conv")
    key = f"model.{first}.weight"
    if isinstance(first, str) and key in weights and weights[key].shape[1] == 3 != channels:
        weights[key] = adapt_input_conv(channels, weights[key])


def check_name(name: str) -> None:
    """Refuses a name that timm does not know."""
    import timm

    tagged = timm.list_pretrained() if timm.is_model(name) and "." in name else []
    if timm.is_model(name) and ("." not in name or name in tagged):
        return
    raise ValueError(no_model(name, tagged or timm.list_models()))


def _takes(name: str, **options: Any) -> bool:
    try:
        family(name, **options)
    except TypeError:  # timm's own refusal of an unknown keyword, or of one that the model's function has fixed
        return False
    return True


@lru_cache(maxsize=32)
def family(name: str, **options: Any) -> Any:
    """Builds a model without memory and without a download, to read its properties."""
    import timm

    with torch.device("meta"):
        return timm.create_model(name, num_classes=0, **options)
