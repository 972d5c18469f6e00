"""Encoders and data that take next to no time: for tests."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..augment.image import ImagePolicy
from ..datamodule import Split, SSLDataModule
from ..encoder import Encoder, TokenEncoder
from ..sources import InMemory, Source
from ..types import Strength, Tokens, View, ViewSpec


class TinyEncoder(Encoder):
    """A convolution and a mean: grey images to 8 features, in next to no time.

    Args:
        dim: number of features.
    """

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim
        self.conv = nn.Conv2d(1, dim, 5, stride=2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.norm(self.conv(view.x).mean(dim=(2, 3)))
        return features


class TinyTokenEncoder(TokenEncoder):
    """Patches of 4x4 pixels, one transformer layer, a mean over tokens.

    Args:
        dim: width of a token, and number of features.
    """

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim, self.content_dim = dim, 16
        self.embed = nn.Linear(16, dim)
        self.position = nn.Parameter(torch.randn(1, 64, dim) * 0.02)
        self.layer = nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.0, batch_first=True)

    def content(self, view: View) -> Tensor:
        return nn.functional.unfold(view.x, 4, stride=4).transpose(1, 2)

    def tokenize(self, view: View) -> Tokens:
        content = self.content(view)
        return Tokens(self.embed(content) + self.position[:, : content.shape[1]])

    def mix(self, tokens: Tokens) -> Tensor:
        mixed: Tensor = self.layer(tokens.x)
        return mixed

    def forward(self, view: View) -> Tensor:
        return self.mix(self.tokenize(view)).mean(dim=1)


class TinyImages(SSLDataModule):
    """Random grey images of 16x16 in 4 classes of brightness: for tests.

    Args:
        samples: how many there are.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        "Encoder": {"class_path": "ssl_lightning.testing.tiny.TinyEncoder"},
        "TokenEncoder": {"class_path": "ssl_lightning.testing.tiny.TinyTokenEncoder"},
    }
    default_epochs = 2
    serves_local = True

    def __init__(self, *, samples: int = 64, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.samples = samples
        self.policy = ImagePolicy(jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, mean=(0.5,), std=(0.25,))

    def source(self, split: Split) -> Source | None:
        generator = torch.Generator().manual_seed(("train", "val", "test").index(split))
        labels = torch.arange(self.samples) % 4
        images = torch.randint(0, 128, (self.samples, 1, 16, 16), generator=generator) + 32 * labels.view(-1, 1, 1, 1)
        return InMemory(images.to(torch.uint8), labels)

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.policy.build(strength, local_size or 16, local=local_size is not None)

    def local_size(self, spec: ViewSpec) -> int | None:
        return spec.local_size or 8
