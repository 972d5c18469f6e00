"""What the formats for images share: the timm model in an encoder, its pooling, and a classifier's
head."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...encoders.base import Encoder
from ...encoders.classifier import Classifier
from ...encoders.timm_model import TimmModel
from ...encoders.vit import ViTEncoder
from .base import Refused


class Parts(NamedTuple):
    """An encoder around a timm model.

    Args:
        model: of timm, without a classifier.
        name: its architecture, without a tag.
        pooling: "mean" or "token" of the normed tokens; None: the model's own pooling.
        head: a classifier on the features; None: there is none.
        classes: its names.
    """

    model: Any
    name: str
    pooling: str | None
    head: nn.Linear | None
    classes: tuple[str, ...]

    @property
    def small(self) -> bool:
        """Whether it is a ResNet with the stem for small images."""
        return isinstance(getattr(self.model, "maxpool", None), nn.Identity)

    @property
    def channels(self) -> int:
        return int(self.model.conv1.in_channels) if hasattr(self.model, "conv1") else int(self.model.in_chans)


def parts_of(encoder: Encoder) -> Parts:
    """The parts of an encoder around a timm model, or of a classifier on one.

    Raises:
        Refused: it is another.
    """
    head: nn.Linear | None = None
    classes: tuple[str, ...] = ()
    if isinstance(encoder, Classifier):
        head, classes, encoder = folded(encoder), tuple(encoder.classes), encoder.encoder
    if not isinstance(encoder, TimmModel):
        raise Refused(f"holds a {type(encoder).__name__}, which is not a model of timm")
    pooling = encoder.pooling if isinstance(encoder, ViTEncoder) else None
    name = str(
        encoder.init_args["name"] if "name" in encoder.init_args else encoder.model.pretrained_cfg["architecture"]
    )
    return Parts(encoder.model, name.partition(".")[0], pooling, head, classes)


@torch.no_grad()
def folded(classifier: Classifier) -> nn.Linear:
    """The head of a classifier with the standardisation before it in its weights."""
    norm, head = classifier.standardise, classifier.head
    assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
    scale = (norm.running_var + norm.eps).rsqrt()
    single = nn.Linear(head.in_features, head.out_features)
    single.weight.copy_(head.weight * scale)
    single.bias.copy_(head.bias - single.weight @ norm.running_mean)
    return single
