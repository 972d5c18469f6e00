"""`ssl-lightning export`: a BERT run as a folder that Hugging Face transformers loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..data.text.tokenizer import load_tokenizer
from ..encoders.bert_huggingface import _reader, _vocabulary, to_transformers
from ..encoders.transformers_model import library, quiet
from ..nn.vocabulary import TOKENIZER as FILE
from ..plugins.registry import Registry
from ..run.checkpoint import newest_of, read
from ..run.pretrained import load


def export_bert(source: Any, folder: str | Path, tokenizer: str | None = None) -> None:
    """Writes a folder that `transformers.AutoModelForMaskedLM` and `AutoTokenizer` load: a BERT
    whose encoder is `norm="post"` as `BertForMaskedLM`, one that is "pre" as
    `RobertaPreLayerNormForMaskedLM`. The folder is there whole or not at all.

    The prediction of the order of sentences, which transformers' models have not, is left out.
    Texts are encoded as in the run, but for names of special tokens in them, such as [MASK]: they
    stand for those tokens here.

    Args:
        source: a run folder, whose newest checkpoint is taken; a checkpoint file; or a method in
            memory.
        folder: where to; it is not there yet, or empty.
        tokenizer: what its `tokenizer.json` holds. None: the run's own.

    Raises:
        FileNotFoundError, FileExistsError: there is no such run or tokenizer; or the folder holds
            something.
        ValueError: transformers is not installed, the run is another method's, transformers has no
            model like its encoder, or the tokenizer does not fit.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} is there already; give the name of a folder that is not.")
    library("export")
    method = _bert(source)
    tokens = _tokenizer(source) if tokenizer is None else Tokenizer.from_str(tokenizer)
    vocabulary = _vocabulary(tokens, method)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with quiet():
            to_transformers(method, vocabulary).save_pretrained(temporary)
            _reader(tokens, vocabulary, method.encoder.max_length).save_pretrained(temporary)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _bert(source: Any) -> Any:
    method = load(source) if isinstance(source, (str, Path)) else source
    if isinstance(method, Registry("ssl_lightning.methods")["bert"]):
        return method
    raise ValueError(
        f"{str(source)!r} is a run of {type(method).__name__}; those of BERT alone can be exported to transformers. The"
        " encoder of any run is loaded from its folder, which holds encoder.safetensors:"
        " ssl_lightning.load_encoder(folder)."
    )


def _tokenizer(source: Any) -> Tokenizer:
    """The tokenizer of a run folder or of a checkpoint."""
    if not isinstance(source, (str, Path)):
        raise ValueError(
            "A method in memory has no tokenizer with it; give what its tokenizer.json holds: export_bert(...,"
            " tokenizer=text)."
        )
    if (Path(source) / FILE).is_file():
        return load_tokenizer(str(source))
    path = newest_of(source)
    text = read(path).get("artifacts", {}).get(FILE)
    if text is None:
        raise FileNotFoundError(
            f"Neither {str(source)!r} nor the checkpoint {str(path)!r} holds a {FILE}; the data was no text."
        )
    return Tokenizer.from_str(text)
