"""What encoders of Hugging Face transformers share: their config, their weights, and checkpoints
that need neither."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

FETCHES = re.compile("auto_map|trust|implementation|quantization|backbone|name_or_path|pretrained|pipeline")
"""Keys of a model's config by which transformers would download or import something."""


class OfTransformers:
    """An encoder around a model of transformers, built by `name`, `pretrained` and `config`."""

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The weights come from the checkpoint, and so does the model's config: nothing in a file
        may name something to fetch or to run."""
        config = init_args.get("config")
        if not isinstance(config, dict):
            raise ValueError("the file does not hold the model's config, which would have to be downloaded.")
        kept = {key: value for key, value in config.items() if not (key.startswith("_") or FETCHES.search(key))}
        return {**init_args, "pretrained": False, "config": kept}

    @classmethod
    def suited_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Adds the model's config to the arguments, so that a run's config and its checkpoints hold
        it."""
        if init_args.get("config") is not None or not isinstance(init_args.get("name"), str):
            return init_args
        return {**init_args, "config": config_of_model(init_args["name"])}


def model_of(encoder: str, name: str, settings: Any, pretrained: bool, spare: str) -> Any:
    """Builds the model of a config, in training mode.

    Args:
        encoder: name of the encoder's class, for messages.
        name: on the hub, or a folder.
        settings: transformers' config of the model.
        pretrained: whether it gets the weights of `name`, or new ones.
        spare: part of the names of tensors that the weights may lack, since the encoder drops them.

    Raises:
        ValueError: there are no such weights, or they lack tensors.
    """
    auto = library(encoder)
    if not pretrained:
        return auto.AutoModel.from_config(settings, trust_remote_code=False).train()
    model, report = fetched(
        auto.AutoModel.from_pretrained, name, config=settings, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(key for key in report["missing_keys"] if spare not in key)
    if missing:
        raise ValueError(f"{encoder}({name!r}): its weights lack {len(missing)} tensors, among them {missing[0]}.")
    return model.train()


def config_of_model(name: str) -> dict[str, Any]:
    """Reads the `config.json` of a folder or of a model on the hub, with the model's type."""
    config = fetched(library(f"The encoder {name!r}").AutoConfig.from_pretrained, name)
    return {**json.loads(config.to_json_string()), "model_type": config.model_type}


def tokenizer_of(name: str) -> str | None:
    """Returns where the `tokenizer.json` of a model is: the folder, or the file that was downloaded
    from the hub; None: it has none."""
    if (Path(name) / "tokenizer.json").is_file():
        return name
    try:
        from transformers.utils.hub import cached_file

        with quiet():
            file = cached_file(name, "tokenizer.json")
    except (ImportError, OSError, ValueError):
        return None
    return None if file is None else str(file)


def library(user: str) -> Any:
    """Imports transformers.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"{user} needs Hugging Face transformers: pip install 'ssl-lightning[hf]'.") from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' bars and reports; our errors name missing tensors."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def fetched(load: Callable[..., Any], name: str | Path, **options: Any) -> Any:
    """Calls a `from_pretrained` of transformers for a folder, or for a name on the hub.

    Raises:
        ValueError: it does not exist, or cannot be downloaded.
    """
    try:
        with quiet():
            return load(str(name), **options)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"transformers cannot load {str(name)!r}, neither as a folder nor from the hub: {reason}"
        ) from error
