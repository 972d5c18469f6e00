"""ResNets with a stem or a width that no model of timm has, as other libraries build them."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from ..plugins.arguments import require
from ..types import View
from .timm_model import TimmModel


class ResNetEncoder(TimmModel):
    """A ResNet (He et al. 2015, arXiv 1512.03385) of any depth and width, with any first layer:
    pooled features [S, dim].

    Its weights bear the names of torchvision and timm. For the usual shapes take `timm`, whose
    models have first weights and names of their own; this one is for weights that other libraries
    wrote.

    Args:
        block: "basic" (ResNet-18, 34) or "bottleneck" (ResNet-50 and deeper).
        layers: number of blocks in each of the four stages.
        width: channels of the stem and of the first stage's 3x3 convolutions; 128 for "w2".
        group_width, groups: of the bottlenecks' 3x3 convolutions, as in wide ResNets (width of 128
            in place of 64) and ResNeXt.
        channels: C of the images.
        kernel, stride, padding: of the first convolution, in pixels.
        activation: whether a ReLU follows the first norm.
        pool: whether max-pooling, 3x3 with stride 2, follows.

    Raises:
        ValueError: an argument is unknown or too small.
    """

    def __init__(
        self,
        block: Literal["basic", "bottleneck"],
        layers: list[int],
        *,
        width: int = 64,
        group_width: int = 64,
        groups: int = 1,
        channels: int = 3,
        kernel: int = 7,
        stride: int = 2,
        padding: int = 3,
        activation: bool = True,
        pool: bool = True,
    ) -> None:
        if block not in ("basic", "bottleneck") or len(layers) != 4:
            raise ValueError(
                f"ResNetEncoder(block={block!r}, layers={layers}): choose basic or bottleneck, and four numbers."
            )
        require(
            self, at_least=1, at_most=10_000, width=width, group_width=group_width, groups=groups, channels=channels
        )
        require(self, at_least=1, at_most=100, kernel=kernel, stride=stride, fewest_blocks=min(layers))
        require(self, at_least=0, at_most=100, padding=padding, most_blocks=max(layers))
        model = _build(block, layers, width, group_width, groups)
        model.conv1 = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        if not activation:
            model.act1 = nn.Identity()
        if not pool:
            model.maxpool = nn.Identity()
        super().__init__(model, channels)

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """There are no published weights of it to leave out."""
        return init_args

    @classmethod
    def suited_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """It takes images of any size."""
        return init_args

    def forward(self, view: View) -> Tensor:
        """Images [S, C, H, W] -> features [S, dim]."""
        return self.model(self.images(view))


def _build(block: str, layers: list[int], width: int, group_width: int, groups: int) -> Any:
    """Builds timm's ResNet without a classifier; its stem and first stage, which timm gives 64
    channels at the input, are of this width."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet, make_blocks

    kind: Any = BasicBlock if block == "basic" else Bottleneck
    options: dict[str, Any] = {"cardinality": groups, "base_width": group_width}
    stages = tuple(width * 2**stage for stage in range(4))
    model: Any = ResNet(kind, tuple(layers), num_classes=0, channels=stages, **options)
    if width != 64:
        model.bn1 = nn.BatchNorm2d(width)
        blocks = max(layers[0], 2)  # timm divides by their number less one
        first: Any = make_blocks(
            (kind,), (width,), (blocks,), width, act_layer=nn.ReLU, norm_layer=nn.BatchNorm2d, **options
        )
        model.layer1 = first[0][0][1][: layers[0]]
    return model
