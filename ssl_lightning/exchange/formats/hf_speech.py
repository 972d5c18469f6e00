"""Encoders of waves as models of Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...encoders.hf_speech import HuggingFaceSpeech
from ...encoders.transformers_model import quiet
from ...encoders.wave import WaveTransformer
from ...encoders.wave_huggingface import to_wav2vec2
from ..inputs import Inputs
from ..subject import Subject
from .base import Format

LINES = """from transformers import AutoModel

model = AutoModel.from_pretrained("{folder}").eval()
with torch.no_grad():
    features = model(x).last_hidden_state.mean(dim=1)  # [1, {dim}]
"""
RATE = 16_000


class SpeechModel(Format):
    """`Wav2Vec2Model`, or the model of transformers that the encoder holds, with its feature
    extractor. Recordings are read one by one: what a batch with a mask gives depends on the
    model."""

    name, library = "huggingface", "Hugging Face transformers (AutoModel)"

    def check(self, subject: Subject) -> None:
        return

    def write(self, subject: Subject, folder: Path) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        encoder, told = subject.encoder, subject.told
        model: Any = to_wav2vec2(encoder) if isinstance(encoder, WaveTransformer) else encoder.model
        extractor = Wav2Vec2FeatureExtractor(
            sampling_rate=told.get("rate", RATE),
            do_normalize=told.get("normalise", True),
            return_attention_mask=masks(encoder),
        )
        with quiet():
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        from transformers import AutoModel

        with quiet(), torch.no_grad():
            model: Any = AutoModel.from_pretrained(folder).eval()
            return torch.cat([model(one.x).last_hidden_state.mean(dim=1) for one in inputs.each()])

    def lines(self, subject: Subject, folder: str) -> str:
        return LINES.format(folder=folder, dim=subject.encoder.dim)

    def facts(self, subject: Subject) -> dict[str, Any]:
        return {"pooling": "the mean of last_hidden_state over the frames of a recording"}


def masks(encoder: Any) -> bool:
    """Whether the model reads recordings of several lengths in one batch with a mask: where no norm
    of its stem goes over time."""
    if isinstance(encoder, HuggingFaceSpeech):
        return not encoder.by_length
    return bool(wave_stem_is_by_position(encoder))


def wave_stem_is_by_position(encoder: WaveTransformer) -> bool:
    return isinstance(encoder.convolutions[-1].norm, torch.nn.LayerNorm)
