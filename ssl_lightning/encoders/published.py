"""Published weights by name: of timm, `timm:NAME` or `timm:FOLDER`, and of Hugging Face
transformers, `hf:NAME` or `hf:FOLDER`; and the data that they read."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..data.datamodule import SSLDataModule
from ..data.images.datamodule import ImageDataModule
from ..data.sound.datamodule import SoundDataModule
from ..data.text.datamodule import TextDataModule
from .base import Encoder
from .hf_speech import HuggingFaceSpeech
from .hf_text import HuggingFaceText
from .timm import TimmEncoder
from .timm_folder import encoder_like
from .transformers_model import config_of_model, library, tokenizer_of

SOURCES = ("timm", "hf")
LONGEST_ROW = 512
"""Tokens in a row for models that read longer ones: a text of more has the mean over windows."""
RATE, WINDOW = 16_000, 10.0
"""Of speech, in Hz and in seconds, where the model's files say nothing."""


class Published(NamedTuple):
    """Published weights.

    Args:
        encoder: in eval mode.
        data: the class of data that it reads.
        arguments: of that data, as far as the model needs them.
    """

    encoder: Encoder
    data: type[SSLDataModule]
    arguments: dict[str, Any]


def is_published(name: str | Path) -> bool:
    """Whether a name is that of published weights, and not of a file."""
    source, colon, rest = str(name).partition(":")
    return bool(colon and rest) and source in SOURCES


def published(name: str | Path) -> Published:
    """The weights of a name; downloaded once where they are not in a folder.

    Raises:
        ValueError: there are no such weights, or they are of a kind that is not read.
    """
    found = _published(str(name))
    return found._replace(encoder=copy.deepcopy(found.encoder))


@lru_cache(maxsize=1)
def _published(name: str) -> Published:
    source, _, rest = name.partition(":")
    found = _of_timm(rest) if source == "timm" else _of_transformers(rest)
    found.encoder.eval()
    return found


def _of_timm(name: str) -> Published:
    import timm
    from timm.data.config import resolve_data_config

    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if folder.is_dir():
        try:
            architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architecture"]
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
            encoder = encoder_like(str(architecture), model)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{str(folder)!r} is no folder of a timm model (config.json, weights): {reason}."
            ) from error
        settings = resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    else:
        encoder = TimmEncoder(name, pretrained=True)
        settings = resolve_data_config({}, pretrained_cfg=encoder.model.pretrained_cfg)
    channels, size, _ = settings["input_size"]
    recipe = {"mean": list(settings["mean"]), "std": list(settings["std"])}
    arguments = {"image_size": int(size), "channels": int(channels), "augmentation": recipe}
    return Published(encoder, ImageDataModule, arguments)


def _of_transformers(name: str) -> Published:
    config = config_of_model(name)
    if "conv_kernel" not in config:
        encoder: Encoder = HuggingFaceText(name)
        tokenizer = tokenizer_of(name)
        if tokenizer is None:
            raise ValueError(f"hf:{name} has no tokenizer.json, without which it reads no text.")
        most = int(config.get("max_position_embeddings") or LONGEST_ROW)
        # RoBERTa and its like count positions from behind the padding's number on.
        row = min(LONGEST_ROW, most - 2 if most % 8 == 2 else most)
        return Published(encoder, TextDataModule, {"tokenizer": tokenizer, "row_length": row})
    settings = _preprocessor(name)
    arguments = {
        "features": "wave",
        "sample_rate": int(settings.get("sampling_rate") or RATE),
        "normalise": bool(settings.get("do_normalize", True)),
        "seconds": WINDOW,
    }
    return Published(HuggingFaceSpeech(name), SoundDataModule, arguments)


def _preprocessor(name: str) -> dict[str, Any]:
    """The `preprocessor_config.json` of a model; empty where it has none."""
    try:
        extractor = library("Speech").AutoFeatureExtractor.from_pretrained(name)
    except (OSError, ValueError):
        return {}
    settings: dict[str, Any] = extractor.to_dict()
    return settings
