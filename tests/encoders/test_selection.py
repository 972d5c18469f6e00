"""Every encoder takes any selection of samples: none of them, one, or all; with padding and
without."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.encoders.audio_conv import AudioConvEncoder
from ssl_lightning.encoders.base import Encoder, TokenEncoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.hf_speech import HuggingFaceSpeech
from ssl_lightning.encoders.hf_text import HuggingFaceText
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.types import View

STEM: dict[str, Any] = {"kernels": [10, 3, 3, 2], "strides": [5, 2, 2, 2]}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
SPEECH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 4],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LENGTHS = torch.tensor([12, 7, 1, 3])


def images(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(4, channels, height, width, generator=torch.Generator().manual_seed(0))


def padded(x: Tensor, unit: int = 1) -> View:
    """Samples of unequal lengths, time last, in units of `unit` values."""
    time = torch.arange(x.shape[-1])
    real = time < (LENGTHS * unit)[:, None]
    shape = (len(x), *(1,) * (x.ndim - 2), -1)
    return View(x * real.view(shape), real * torch.arange(1, 5)[:, None], time.expand(4, -1), 4)


def some(view: View, selection: slice) -> View:
    """Some of the samples, numbered anew."""
    if view.segment is None:
        return View(view.x[selection])
    segment = (view.segment[selection] > 0) * torch.arange(1, len(view.x[selection]) + 1)[:, None]
    assert view.position is not None
    return View(view.x[selection], segment, view.position[selection], len(segment))


def waves() -> Tensor:
    return images(1, 1, 12 * 60)[:, 0, 0]


def ids() -> Tensor:
    return torch.randint(5, 30, (4, 12), generator=torch.Generator().manual_seed(0))


CASES: dict[str, tuple[Callable[[], Encoder], Callable[[], View]]] = {
    "conv": (lambda: ConvEncoder(width=4, depth=2), lambda: View(images(3, 16, 16))),
    "audio_conv": (lambda: AudioConvEncoder(mels=16, width=4, depth=2), lambda: View(images(1, 16, 20))),
    "timm": (lambda: TimmEncoder("resnet10t"), lambda: View(images(3, 32, 32))),
    "vit": (
        lambda: ViTEncoder(image_size=16, patch_size=4, dim=16, depth=2, heads=2),
        lambda: View(images(3, 16, 16)),
    ),
    "frames": (lambda: FrameTransformer(mels=16, dim=16, depth=2), lambda: View(images(1, 16, 24))),
    "frames, padded": (lambda: FrameTransformer(mels=16, dim=16, depth=2), lambda: padded(images(1, 16, 24), 2)),
    "text": (lambda: TextTransformer(vocab_size=30, dim=16, depth=2, heads=2), lambda: View(ids())),
    "text, padded": (lambda: TextTransformer(vocab_size=30, dim=16, depth=2, heads=2), lambda: padded(ids())),
    "wav": (lambda: WaveTransformer(**STEM, maps=8, dim=16, depth=2, heads=2), lambda: View(waves())),
    "wav, padded": (lambda: WaveTransformer(**STEM, maps=8, dim=16, depth=2, heads=2), lambda: padded(waves(), 60)),
    "wav, group, padded": (
        lambda: WaveTransformer(**STEM, maps=8, dim=16, depth=2, heads=2, stem="group", norm="post"),
        lambda: padded(waves(), 60),
    ),
    "hf_text": (lambda: HuggingFaceText("bert", pretrained=False, config=BERT), lambda: View(ids())),
    "hf_text, padded": (lambda: HuggingFaceText("bert", pretrained=False, config=BERT), lambda: padded(ids())),
    **{
        f"hf_speech, {norm}{marked}": (
            lambda norm=norm: HuggingFaceSpeech(  # type: ignore[misc]
                "hubert", pretrained=False, config={**SPEECH, "model_type": "hubert", "feat_extract_norm": norm}
            ),
            (lambda: padded(waves(), 60)) if marked else (lambda: View(waves())),
        )
        for norm in ("layer", "group")
        for marked in ("", ", padded")
    },
}


def test_every_encoder_is_among_the_cases() -> None:
    ours = {point.name for point in entry_points(group="ssl_lightning.encoders") if "ssl_lightning." in point.value}
    assert {name.partition(",")[0] for name in CASES} == ours


@pytest.mark.parametrize("case", CASES)
def test_any_selection_of_samples_is_encoded(case: str) -> None:
    build, view = CASES[case]
    if case.startswith("hf_"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder, whole = build().eval(), view()
    with torch.no_grad():
        features = encoder(whole)
        for selection in (slice(0, 0), slice(1, 2), slice(0, 4)):
            part = some(whole, selection)
            out = encoder(part)
            assert out.shape == (len(part.x), encoder.dim) and out.dtype == features.dtype
            assert_close(out, features[selection], rtol=1e-4, atol=1e-5)
            if isinstance(encoder, TokenEncoder):
                content = encoder.content(part)
                assert content.shape[0] == len(part.x) and content.shape[2] == encoder.content_dim
                assert encoder.grid(part) == encoder.grid(whole)
