"""`fit --from`: what a run starts from says which method, encoder and data it takes where the user
does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..plugins.rebuild import offline
from ..plugins.record import config_of
from ..run.start import OPTION, checkpoint_of, origin_of
from .defaults import class_of, named_classes, of_checkpoint
from .names import KINDS, Names, UsageError
from .request import read_request


def with_origin(argv: Sequence[str], names: Names) -> list[str]:
    """The command line with a config in front of it, of the method and the data of the run that a
    run starts from, or of its encoder alone; unchanged where it starts from none.

    Raises:
        UsageError: there is no such run, file or name, it does not say which method or data, or the
            method needs another kind of encoder.
    """
    request = read_request(argv, names)
    path = request.chosen.get("start.weights")
    if request.command != "fit" or path is None:
        return list(argv)
    if not isinstance(path, str):
        raise UsageError(f"{OPTION} {path} is not a run, a file or the name of published weights.")
    try:
        layer = layer_of(path, request.chosen, names)
    except (OSError, ValueError, UsageError) as error:
        message = str(error)
        raise UsageError(message if message.startswith(OPTION) else f"{OPTION} {path}: {message}") from error
    return [request.command, "--config", json.dumps(layer), *argv]


def layer_of(path: str, chosen: dict[str, Any], names: Names) -> dict[str, Any]:
    """The part of a config that comes from what a run starts from."""
    trust = named_classes(chosen)
    checkpoint = checkpoint_of(path)
    recorded = {} if checkpoint is None else of_checkpoint(str(checkpoint), names, trust)
    layer = {}
    if "data" not in chosen and "data" in recorded:
        layer["data"] = recorded["data"]
        layer["data"].get("init_args", {}).pop("seed", None)  # the run's own
    model = chosen.get("model")
    if model is None and "model" not in recorded:
        origin_of(path, trust=trust)  # is there anything?
        raise UsageError(
            f"it holds an encoder, and no method; give a --model, one of {', '.join(names.registries[KINDS['model']])}."
        )
    if model in (None, recorded.get("model", {}).get("class_path")):
        layer["model"] = recorded["model"]
        return layer
    method = class_of(model, "methods", names)
    if method is not None:
        encoder = origin_of(path, method, trust).encoder
        layer["model"] = {"class_path": model, "init_args": {"encoder": offline(config_of(encoder), trust)}}
    return layer
