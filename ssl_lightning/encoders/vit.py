"""timm's vision transformers are split in two halves, so that patches can be masked in between."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..nn.attention import plain_is_faster
from ..nn.initial import start
from ..plugins.arguments import require
from ..types import Tokens, View
from .base import TokenEncoder
from .timm_model import VIT, TimmModel, build, check_name, check_patches, family, fix_positions, start_patches


class ViTEncoder(TimmModel, TokenEncoder):
    """A vision transformer of timm (Dosovitskiy et al. 2020, arXiv 2010.11929) whose patches a
    method can mask.

    `tokenize` is the patch projection with positions, behind the class token and registers; `mix`
    is the blocks and the last norm, on any subset of tokens. Weights start as in MAE (He et al.
    2021, arXiv 2111.06377, Appendix A.1, and the authors' code): by Xavier's rule, the patch
    projection too, the class token with a standard deviation of 0.02, biases at zero.

    Args:
        name: of timm's class VisionTransformer (`vit_*`, `deit_*`, `deit3_*`, ...), with or without
            a tag.
        channels: C of the images.
        image_size: side of the images in pixels, or height and width; None: that in the name.
        patch_size: side P of a patch in pixels, or height and width, which divides the image; None:
            that in the name.
        dim, depth, heads: width of a token, number of blocks, and heads of their attention; None:
            those of the name.
        pooling: the vector of an image: "mean" of the patch tokens, or "token", the class token.
        position: "sincos", fixed sines and cosines of row and column (MAE), zero for the class
            token; or "learned".
        dynamic_image_size: whether images of other sizes are taken too, with the positions
            interpolated to them.
        pretrained: whether to start from timm's weights, downloaded once. Off when a checkpoint
            rebuilds the encoder.
        drop_path_rate: stochastic depth (Huang et al. 2016, arXiv 1603.09382), the rate of the last
            block.
        norm_eps: what the norms add to the variance; None: that of timm, 1e-6.

    Raises:
        ValueError: the name is unknown or of another family, or an argument does not fit; in
            `tokenize` and `content`, the images have other channels or another size than the model
            was built for.
    """

    weighs_layers = False

    def __init__(
        self,
        name: str = VIT,
        *,
        channels: int = 3,
        image_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
        dim: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        pooling: Literal["mean", "token"] = "mean",
        position: Literal["sincos", "learned"] = "sincos",
        dynamic_image_size: bool = False,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
        norm_eps: float | None = None,
    ) -> None:
        require("ViTEncoder", at_least=0, below=1, norm_eps=norm_eps)
        if pooling not in ("mean", "token") or position not in ("sincos", "learned"):
            raise ValueError(
                f"ViTEncoder(pooling={pooling!r}, position={position!r}): choose mean or token, and sincos or learned."
            )
        if pretrained and position == "sincos":
            raise ValueError(
                "ViTEncoder(pretrained=True): the weights belong to learned positions; set position=learned."
            )
        check_name(name)
        _check_family(name, pooling, dim, depth, heads)
        options = {
            "img_size": image_size,
            "patch_size": patch_size,
            "embed_dim": dim,
            "depth": depth,
            "num_heads": heads,
            "dynamic_img_size": dynamic_image_size or None,
            "drop_path_rate": drop_path_rate or None,
            "weight_init": "jax",
        }
        model = build("ViTEncoder", name, channels, pretrained, options)
        check_patches("ViTEncoder", name, model)
        super().__init__(model, channels)
        self.pooling = pooling
        self.patch: tuple[int, int] = model.patch_embed.patch_size
        self.prefix = model.num_prefix_tokens
        self.content_dim = channels * self.patch[0] * self.patch[1]
        if norm_eps is not None:
            for norm in model.modules():
                if isinstance(norm, nn.LayerNorm):
                    norm.eps = norm_eps
        self.attentions = [module for module in model.modules() if getattr(module, "fused_attn", False)]
        if not pretrained:
            _start_as_mae(model)
        if position == "sincos":
            fix_positions(model)

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        return self._pooled(self.mix(self.tokenize(view)))

    def layer_features(self, view: View) -> Tensor:
        x = self.tokenize(view).x
        states = [x]
        for block in self.model.blocks:
            x = block(x)
            states.append(x)
        states[-1] = self.model.fc_norm(self.model.norm(x))
        return torch.stack([self._pooled(state) for state in states], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        """Tokens [S, prefix + N, dim] -> [S, dim]."""
        return x[:, 0] if self.pooling == "token" else x[:, self.prefix :].mean(dim=1)

    def tokenize(self, view: View) -> Tokens:
        """Images [S, C, H, W] -> class token, registers and embedded patches [S, prefix + N, dim],
        row by row."""
        patches = self.model.patch_embed(self.images(view))
        return Tokens(self.model.norm_pre(self.model._pos_embed(patches)))

    def mix(self, tokens: Tokens) -> Tensor:
        """All tokens, or a subset of each row -> as many contextual tokens, normalised."""
        for attention in self.attentions:
            attention.fused_attn = not plain_is_faster(tokens.x)
        x = self.model.blocks(tokens.x)
        # Models that normalise after pooling have `fc_norm` in place of `norm`.
        normed: Tensor = self.model.fc_norm(self.model.norm(x))
        return normed

    def content(self, view: View) -> Tensor:
        """The pixels of each patch [S, N, P * P * C], row by row, the channels of a pixel
        adjacent."""
        rows, columns = self.patch
        x = self.images(view).unflatten(2, (-1, rows)).unflatten(4, (-1, columns))  # [S, C, H / P, P, W / P, P]
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def grid(self, view: View) -> tuple[int, ...]:
        """Rows and columns of patches."""
        height, width = self.images(view).shape[2:]
        return height // self.patch[0], width // self.patch[1]

    def restore(self, content: Tensor, view: View) -> Tensor:
        """The pixels of patches [S, N, P * P * C] -> images [S, C, H, W]."""
        patches = content.unflatten(1, self.grid(view))
        x = patches.unflatten(3, (*self.patch, self.channels))  # [S, H / P, W / P, P, P, C]
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def _check_family(name: str, pooling: str, dim: int | None, depth: int | None, heads: int | None) -> None:
    """Refuses models that cannot be split in two halves, and sizes that do not fit together, before
    any memory is used."""
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    model = family(name)
    reason = ""
    if type(model) is not VisionTransformer:
        reason = "is not timm's VisionTransformer"
    elif type(model.patch_embed) is not PatchEmbed:
        reason = f"does not embed patch by patch but through {type(model.patch_embed).__name__}"
    elif model.attn_pool is not None:
        reason = "pools by attention"
    elif model.pos_embed is None or not isinstance(model.patch_drop, nn.Identity):
        reason = "has no positions, or drops patches itself"
    if reason:
        raise ValueError(
            f"ViTEncoder({name!r}): its class {type(model).__name__} {reason}, so that patches cannot be masked; choose"
            f" one such as {VIT}."
        )
    if pooling == "token" and not model.has_class_token:
        raise ValueError(f"ViTEncoder({name!r}, pooling='token'): {name} has no class token; choose pooling=mean.")
    dim = model.embed_dim if dim is None else dim
    heads = model.blocks[0].attn.num_heads if heads is None and hasattr(model.blocks[0], "attn") else heads
    if dim < 4 or dim % 4 or (depth is not None and depth < 1) or (heads is not None and (heads < 1 or dim % heads)):
        raise ValueError(
            f"ViTEncoder({name!r}, dim={dim}, depth={depth}, heads={heads}): needs a block, and a dim that is a"
            " multiple of 4 and of heads."
        )


def _start_as_mae(model: Any) -> None:
    """First weights of MAE's encoder."""
    start(model)
    start_patches(model)
    if model.cls_token is not None:
        nn.init.normal_(model.cls_token, std=0.02)
