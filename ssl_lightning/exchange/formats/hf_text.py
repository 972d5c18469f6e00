"""Text encoders as models of Hugging Face transformers, with their tokenizer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.text.judged import read_tokenizer
from ...data.text.tokenizer import TOKENIZER, vocabulary_of
from ...encoders.bert_huggingface import layout_of, to_text_model, tokenizer_like
from ...encoders.published import is_published
from ...encoders.text import TextTransformer
from ...encoders.transformers_model import quiet
from ...method import SSLMethod
from ...run.pretrained import load
from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused, means

LINES = """from transformers import AutoModel

model = AutoModel.from_pretrained("{folder}").eval()
with torch.no_grad():
    tokens = model(input_ids=x, attention_mask=mask).last_hidden_state  # [1, N, {dim}]
features = {pooled}  # [1, {dim}]
"""
POOLED = {
    "first": "tokens[:, 0]",
    "mean": "(tokens * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)",
}


class TextModel(Format):
    """The model for masked language modelling that a run trained, with its head; of an encoder
    alone, the model without a head."""

    name, library = "huggingface", "Hugging Face transformers (AutoModel)"

    def check(self, subject: Subject) -> None:
        tokenizer_of(subject)
        if isinstance(subject.encoder, TextTransformer):
            layout_of(subject.encoder)

    def write(self, subject: Subject, folder: Path) -> None:
        method = exporting_method(subject.run)
        if method is not None:
            method.export(folder, subject.artifacts)
            return
        text = tokenizer_of(subject)
        encoder: Any = subject.encoder
        tokens = read_tokenizer(text, f"The run's {TOKENIZER}")
        vocabulary = vocabulary_of(tokens)
        model = to_text_model(encoder, vocabulary) if isinstance(encoder, TextTransformer) else encoder.model
        with quiet():
            model.save_pretrained(folder)
            tokenizer_like(tokens, vocabulary, encoder.max_length).save_pretrained(folder)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        from transformers import AutoModel, AutoTokenizer

        assert inputs.mask is not None
        with quiet(), torch.no_grad():
            model: Any = AutoModel.from_pretrained(folder).eval()
            pad = AutoTokenizer.from_pretrained(folder).pad_token_id
            x = torch.where(inputs.mask > 0, inputs.x, pad)
            tokens: Tensor = model(input_ids=x, attention_mask=inputs.mask).last_hidden_state
        return tokens[:, 0] if pooling_of(subject.encoder) == "first" else means(tokens, inputs.mask)

    def lines(self, subject: Subject, folder: str) -> str:
        return LINES.format(folder=folder, pooled=POOLED[pooling_of(subject.encoder)], dim=subject.encoder.dim)

    def facts(self, subject: Subject) -> dict[str, Any]:
        return {"pooling": POOLED[pooling_of(subject.encoder)]}


def pooling_of(encoder: Any) -> str:
    return str(encoder.pooling)


def tokenizer_of(subject: Subject) -> str:
    """What the `tokenizer.json` of the run holds.

    Raises:
        Refused: there is none.
    """
    files = {} if subject.preparation is None else subject.preparation.files
    text = subject.artifacts.get(TOKENIZER, files.get(TOKENIZER))
    if text is None:
        raise Refused(f"cannot be exported without the {TOKENIZER} of its run, which is not there; put it beside it")
    return text


def exporting_method(run: str) -> SSLMethod | None:
    """The method of a run folder or checkpoint that writes itself; None: there is none, or it does
    not."""
    if is_published(run) or Path(run).suffix == ".safetensors":
        return None
    with suppress(FileNotFoundError):
        method = load(run)
        if isinstance(method, SSLMethod) and type(method).export is not SSLMethod.export:
            return method
    return None
