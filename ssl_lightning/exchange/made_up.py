"""Random values of the shape that an encoder takes, for one whose data is unknown."""

from __future__ import annotations

import torch

from ..encoders.base import Encoder, TextEncoder, WaveEncoder
from ..encoders.classifier import Classifier
from ..encoders.hf_speech import HuggingFaceSpeech
from ..encoders.timm_model import TimmModel, patches_of
from ..types import View

SIDE, SECOND, TOKENS = 64, 16_000, 12


def made_up_view(encoder: Encoder, samples: int) -> View:
    """A view of random values.

    Args:
        encoder: whose class says what it reads.
        samples: S of the view.

    Raises:
        ValueError: nothing says what it reads.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(encoder, Classifier):
        return made_up_view(encoder.encoder, samples)
    if isinstance(encoder, TextEncoder):
        longest = min(TOKENS, getattr(encoder, "max_length", None) or TOKENS)
        rows = encoder.embedding.num_embeddings
        ids = torch.randint(min(5, rows - 1), rows, (samples, longest), generator=generator)
        lengths = torch.tensor([max(1, longest - number) for number in range(samples)])
        real = torch.arange(longest) < lengths[:, None]
        return View(ids * real, real * torch.arange(1, samples + 1)[:, None])
    if isinstance(encoder, (WaveEncoder, HuggingFaceSpeech)):
        return View(torch.randn(samples, SECOND, generator=generator))
    if isinstance(encoder, TimmModel):
        patches = patches_of(encoder.model)
        height, width = patches.img_size if patches is not None else (SIDE, SIDE)
        return View(torch.randn(samples, encoder.channels, height, width, generator=generator))
    if isinstance(channels := getattr(encoder, "channels", None), int):
        return View(torch.randn(samples, channels, SIDE, SIDE, generator=generator))
    raise ValueError(
        f"Nothing says what {type(encoder).__name__} reads, so that its features cannot be compared; give the run"
        " folder, whose data is still there."
    )
