"""Encoders and data so small that they take almost no time: for tests."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..augment.image import ImagePolicy
from ..data.datamodule import Split, SSLDataModule
from ..data.sound.datamodule import SoundDataModule
from ..data.sound.recording import Sound
from ..data.sound.source import SoundSource
from ..data.sources import InMemory, Source
from ..data.text.augment import TextAugmentation
from ..encoders.base import Encoder, TokenEncoder
from ..nn.packing import Ragged
from ..nn.vocabulary import SPECIAL, Vocabulary, introduce
from ..plugins.arguments import require
from ..types import Strength, Tokens, View, ViewSpec

VOCAB_SIZE, ROW_LENGTH = 40, 16
"""The vocabulary size and the row length of `TinyText`."""
WAVE_STEM: dict[str, Any] = {"kernels": [10, 3, 3, 2], "strides": [5, 2, 2, 2]}
"""The stem that makes one token of each 5 ms of `TinyWaves`: 6 to 30 tokens per recording."""


class TinyEncoder(Encoder):
    """A convolution and a mean: grey images to 8 features, in almost no time.

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
    """A transformer of one layer over patches of 4x4 pixels, and a mean over tokens.

    Args:
        dim: width of the tokens, and number of features.
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
        samples: number of samples in each split.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        "Encoder": {"class_path": "ssl_lightning.testing.tiny.TinyEncoder"},
        "TokenEncoder": {"class_path": "ssl_lightning.testing.tiny.TinyTokenEncoder"},
    }
    default_epochs = 2
    serves_local = True

    def __init__(self, *, samples: int = 64, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        require(self, at_least=1, samples=samples)
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


class TinyText(SSLDataModule):
    """Random token ids, 3 to 12 per sample, in 4 classes with disjoint sets of ids: for tests.

    Args:
        samples: number of samples in each split.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        kind: {"class_path": "text", "init_args": {"vocab_size": VOCAB_SIZE, "size": "tiny", "max_length": ROW_LENGTH}}
        for kind in ("Encoder", "TextEncoder")
    }
    default_epochs = 2

    def __init__(self, *, samples: int = 64, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        require(self, at_least=1, samples=samples)
        self.samples = samples

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.plain(VOCAB_SIZE)

    def meet(self, method: Any) -> None:
        introduce(method, self.vocabulary)

    @property
    def rows_alike(self) -> bool:
        return False

    @property
    def in_workers(self) -> bool:
        return True

    def source(self, split: Split) -> Source | None:
        generator = torch.Generator().manual_seed(("train", "val", "test").index(split))
        labels = torch.arange(self.samples) % 4
        lengths = torch.randint(3, 13, (self.samples,), generator=generator)
        first = len(SPECIAL) + 8 * labels
        texts = [
            first_id + torch.randint(0, 8, (count,), generator=generator)
            for first_id, count in zip(first, lengths.tolist(), strict=True)
        ]
        return _Texts(texts, self.vocabulary, labels)

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return TextAugmentation(ROW_LENGTH, self.vocabulary, 0.2 if strength.startswith("strong") else 0.0)

    def raw_features(self, raw: Ragged) -> Tensor:
        return torch.zeros(len(raw.lengths), VOCAB_SIZE).index_put_(
            (raw.sample, raw.x), torch.ones(len(raw.x)), accumulate=True
        )


class _Texts(Source):
    in_memory = True

    def __init__(self, texts: list[Tensor], vocabulary: Vocabulary, labels: Tensor) -> None:
        ends = torch.tensor([vocabulary.cls]), torch.tensor([vocabulary.sep])
        self.texts, self.labels = [torch.cat([ends[0], text, ends[1]]) for text in texts], labels

    def __len__(self) -> int:
        return len(self.texts)

    def fetch(self, index: Tensor) -> Ragged:
        texts = [self.texts[number] for number in index.tolist()]
        return Ragged(torch.cat(texts), torch.tensor([len(text) for text in texts]))


class TinyWaves(SoundDataModule):
    """Random waves, 32 to 152 ms each at 8 kHz, in 4 classes of pitch, padded to about the longest
    of a batch: for tests.

    Args:
        samples: number of samples in each split.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        kind: {"class_path": "wav", "init_args": {**WAVE_STEM, "maps": 8, "dim": 16, "depth": 1, "heads": 2}}
        for kind in ("Encoder", "TokenEncoder", "SequenceEncoder", "WaveEncoder")
    }
    default_epochs = 2

    def __init__(self, *, samples: int = 64, batch_size: int = 16, **kwargs: Any) -> None:
        super().__init__(
            **{"features": "wave", "sample_rate": 8000, "seconds": None, "batch_size": batch_size, **kwargs}
        )
        require(self, at_least=1, samples=samples)
        self.count = samples

    def source(self, split: Split) -> Source | None:
        return _Waves(self.count, self.sample_rate, ("train", "val", "test").index(split))


class _Waves(SoundSource):
    in_memory = True

    def __init__(self, count: int, rate: int, seed: int) -> None:
        super().__init__(count, rate, torch.arange(count) % 4)
        generator = torch.Generator().manual_seed(seed)
        frames = torch.randint(256, 1217, (count,), generator=generator).tolist()
        noise = [torch.randn(each, generator=generator) for each in frames]
        pitch = [torch.arange(each) * (0.1 * 2 ** (number % 4)) for number, each in enumerate(frames)]
        self.waves = [0.1 * each.sin() + 0.02 * more for each, more in zip(pitch, noise, strict=True)]
        self.fingerprint = f"tiny waves {seed}"

    def open(self, number: int) -> Sound:
        return _Wave(self.name(number), self.waves[number], self.sample_rate)

    def name(self, number: int) -> str:
        return f"wave {number}"


class _Wave(Sound):
    def __init__(self, name: str, wave: Tensor, rate: int) -> None:
        self.name, self.wave, self.frames, self.rate = name, wave, len(wave), rate

    def read(self, start: int, count: int) -> Tensor:
        before = max(0, min(count, -start))
        inside = self.wave[max(start, 0) : max(start + count, 0)]
        return nn.functional.pad(inside, (before, count - before - len(inside)))
