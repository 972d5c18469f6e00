"""Hugging Face transformers: a folder that `from_pretrained` loads, with what prepares its
inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ...encoders.hf_speech import HuggingFaceSpeech
from ...encoders.hf_text import HuggingFaceText
from ...encoders.text import TextTransformer
from ...encoders.timm_model import TimmModel
from ...encoders.wave import WaveTransformer
from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused
from .hf_images import VisionModel
from .hf_speech import SpeechModel
from .hf_text import TextModel

KINDS: dict[type, type[Format]] = {
    TextTransformer: TextModel,
    HuggingFaceText: TextModel,
    WaveTransformer: SpeechModel,
    HuggingFaceSpeech: SpeechModel,
    TimmModel: VisionModel,
}
"""By the class of an encoder, what writes its model of transformers."""


class HuggingFace(Format):
    """Vision transformers, `TextTransformer`, `WaveTransformer`, and encoders around a model of
    transformers."""

    name, library = "huggingface", "Hugging Face transformers (from_pretrained)"
    needs, extra = ("transformers",), "hf"

    def check(self, subject: Subject) -> None:
        self._kind(subject).check(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        self._kind(subject).write(subject, folder)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        return self._kind(subject).features(subject, folder, inputs)

    def lines(self, subject: Subject, folder: str) -> str:
        return self._kind(subject).lines(subject, folder)

    def facts(self, subject: Subject) -> dict[str, Any]:
        return self._kind(subject).facts(subject)

    def _kind(self, subject: Subject) -> Format:
        self.check_installed()
        for encoder, kind in KINDS.items():
            if isinstance(subject.encoder, encoder):
                return kind()
        raise Refused(f"holds a {type(subject.encoder).__name__}, and transformers has no model like it")
