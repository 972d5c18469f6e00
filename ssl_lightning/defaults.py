"""What a run takes where nobody says otherwise: an encoder that suits method and data, the data's epochs, one seed.

It goes into the config below everything else, so that `--print_config`, config.yaml and checkpoints hold the choice.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from .layers import Request
from .names import KINDS, Names, UsageError

LENGTH = {"trainer.max_epochs": (None,), "trainer.max_steps": (None, -1), "trainer.max_time": (None,)}
"""What says how long a run is, and the values that say nothing."""
OF_THE_DATA = ("channels",)
"""What an encoder that the user names still takes from the data's default one."""


def lowest_layer(request: Request, names: Names) -> dict[str, Any]:
    """The config that lies below every other.

    Raises:
        RegistryError: the method or datamodule chosen does not import.
        UsageError: the method does not say what kind of encoder it needs, or the data has no default one of that kind.
    """
    chosen = request.chosen
    if request.command != "fit" and chosen.get("ckpt_path") and "model" not in chosen:
        return of_checkpoint(str(chosen["ckpt_path"]))
    layer: dict[str, Any] = {}
    method = _load(chosen.get("model"), "methods", names)
    data = _load(chosen.get("data"), "datamodules", names)
    if data is not None:
        seed = chosen.get("seed_everything", 0)
        takes_it = "seed" in parameters(data) and isinstance(seed, int)  # anything else the parser refuses
        layer["data"] = {"class_path": chosen["data"], "init_args": {"seed": seed} if takes_it else {}}
        if request.command == "fit" and all(chosen.get(key) in silent for key, silent in LENGTH.items()):
            layer["trainer"] = {"max_epochs": data.default_epochs}
    if method is not None and data is not None:
        encoder = _encoder(method, data, chosen, names)
        layer["model"] = {"class_path": chosen["model"], "init_args": {"encoder": encoder} if encoder else {}}
    return layer


def of_checkpoint(path: str) -> dict[str, Any]:
    """Model and data of the run that wrote a checkpoint."""
    from .checkpoint import config_in, read

    try:
        config = config_in(read(path), path)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    return {key: config[key] for key in ("model", "data") if key in config}


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name, those that `**kwargs` passes on to the bases among them."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        found = {parameter.name: parameter for parameter in own if parameter.kind != parameter.VAR_KEYWORD} | found
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in own):
            break
    return found


def argument_defaults(cls: type) -> dict[str, Any]:
    """The defaults of the constructor's arguments."""
    return {name: parameter.default for name, parameter in parameters(cls).items() if parameter.default is not parameter.empty}


def _encoder(method: type, data: Any, chosen: dict[str, Any], names: Names) -> dict[str, Any] | None:
    parameter = parameters(method).get("encoder")
    if parameter is None:
        return None
    if parameter.annotation is parameter.empty:
        raise UsageError(
            f"{chosen['model']} does not say what encoder it needs; annotate the argument: `encoder: Encoder` or `TokenEncoder`."
        )
    kind = "TokenEncoder" if "TokenEncoder" in str(parameter.annotation) else "Encoder"
    given = {key.removeprefix("data."): value for key, value in chosen.items() if key.startswith("data.")}
    default = names.expand(data.suited_encoders(argument_defaults(data) | given).get(kind), ("model", "encoder"))
    path = chosen.get("model.encoder")
    if path is None and default is None:
        model, dataset = (names.registries[k].name_of(chosen[key]) for key, k in KINDS.items())
        raise UsageError(f"{model} needs a {kind}, and {dataset} has no default one; name one with --model.encoder.")
    if path is None or default is None:
        return default
    keep = {key: value for key, value in default["init_args"].items() if key in OF_THE_DATA}
    encoder = _load(path, "encoders", names)
    init_args = {key: value for key, value in keep.items() if encoder and key in parameters(encoder)}
    if "model.encoder.name" in chosen:
        init_args["name"] = chosen["model.encoder.name"]
    return {"class_path": path, "init_args": init_args}


def _load(path: Any, kind: str, names: Names) -> Any:
    """The class of a class path; None where there is none, or where the parser is to say what is wrong with it."""
    if not isinstance(path, str):
        return None
    registry = names.registries[kind]
    for plugin in registry.plugins.values():
        if plugin.path == path:
            return registry[plugin.name]
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None
