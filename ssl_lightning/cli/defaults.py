"""Defaults that depend on the method and the data: an encoder that suits both, the data's number of
epochs, one seed.

They go into a config that every other config and option overrides, so that `--print_config`,
config.yaml and checkpoints record them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ..encoders.kinds import KINDS, REMEDIES, needed_encoder
from ..plugins.arguments import argument_defaults, parameters, takes
from ..plugins.gate import judge
from ..plugins.rebuild import check_size, offline
from ..plugins.record import config_of
from .names import CLASS_PATH, Names, UsageError
from .request import Request

LENGTH = {
    "trainer.max_epochs": (None,),
    "trainer.max_steps": (None, -1),
    "trainer.max_time": (None,),
    "trainer.minutes": (None,),
}
"""The options that set the length of a run, each with the values that leave it open."""


def lowest_layer(request: Request, names: Names) -> dict[str, Any]:
    """The config that every other config and option overrides.

    Raises:
        RegistryError: the method or datamodule chosen does not import.
        UsageError: the method does not say what kind of encoder it needs, or the data has no
            default one of that kind.
    """
    chosen = request.chosen
    if request.command != "fit" and chosen.get("ckpt_path") and "model" not in chosen:
        return of_checkpoint(str(chosen["ckpt_path"]), names, named_classes(chosen))
    layer: dict[str, Any] = {}
    method = class_of(chosen.get("model"), "methods", names)
    data = class_of(chosen.get("data"), "datamodules", names)
    if data is not None:
        seed = chosen.get("seed_everything", 0)
        takes_seed = "seed" in parameters(data) and isinstance(seed, int)  # the parser refuses anything else
        data_args: dict[str, Any] = {"seed": seed} if takes_seed else {}
        if method is not None:
            data_args |= _suited_data(method, data, chosen, names)
        if method is not None and "checkpoint" in parameters(method):
            data_args |= _of_run(data, chosen.get("model.checkpoint"))
        if request.command == "fit":
            data_args |= _of_run(data, chosen.get("start.weights"))
        layer["data"] = {"class_path": chosen["data"], "init_args": data_args}
        if request.command == "fit" and all(chosen.get(key) in unset for key, unset in LENGTH.items()):
            layer["trainer"] = {"max_epochs": data.default_epochs}
    if method is not None and data is not None:
        encoder = _pretrained(method, chosen) or _encoder(method, data, request, names)
        init_args = {} if getattr(data, "serves_local", True) else dict(getattr(method, "without_local", {}))
        init_args |= {"encoder": encoder} if encoder else {}
        layer["model"] = {"class_path": chosen["model"], "init_args": init_args}
    return layer


def of_checkpoint(path: str, names: Names, trust: Iterable[str] = ()) -> dict[str, Any]:
    """The model and data of the run that wrote a checkpoint. The checkpoint holds the weights, so
    none are downloaded or loaded from elsewhere; and nothing in it runs (`plugins.gate`).

    Args:
        path: the checkpoint.
        names: of the plug-ins.
        trust: class paths that the user named.
    """
    from ..plugins.archive import read
    from ..plugins.run_record import config_in

    try:
        checkpoint = read(path)
        config = config_in(checkpoint, path)
        recorded = {key: config[key] for key in ("model", "data") if isinstance(config.get(key), dict)}
        judge(recorded, repr(path), trust)
        check_size(checkpoint.get("state_dict") or {}, recorded.get("model"), trust, repr(path))
        layer: dict[str, Any] = offline(recorded, trust)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    if "data" in layer:
        data = class_of(layer["data"]["class_path"], "datamodules", names)
        layer["data"].setdefault("init_args", {}).update(_of_run(data, path))
    return layer


def named_classes(chosen: dict[str, Any]) -> list[str]:
    """The class paths that the user named: on the command line, or in a config."""
    return [value for value in chosen.values() if isinstance(value, str) and CLASS_PATH.fullmatch(value)]


def _of_run(data: Any, path: Any) -> dict[str, Any]:
    """The arguments with which a datamodule class makes the same views as the run whose folder,
    checkpoint or encoder is at `path`."""
    from ..run.reading import arguments_for

    if not isinstance(path, str) or not hasattr(data, "arguments_of"):
        return {}
    try:
        return arguments_for(data, path)
    except (OSError, ValueError):
        return {}  # the error is raised where the encoder is loaded


def _pretrained(method: type, chosen: dict[str, Any]) -> dict[str, Any] | None:
    """The config of the encoder in the checkpoint that a method starts from; None: there is no
    checkpoint."""
    path = chosen.get("model.checkpoint") if "checkpoint" in parameters(method) else None
    if path is None:
        return None
    from ..run.pretrained import load_encoder

    try:
        encoder: dict[str, Any] = config_of(load_encoder(str(path), named_classes(chosen)))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model.checkpoint: {error}") from error
    return encoder


def _encoder(method: type, data: Any, request: Request, names: Names) -> dict[str, Any] | None:
    chosen = request.chosen
    parameter = parameters(method).get("encoder")
    if parameter is None:
        return None
    if parameter.annotation is parameter.empty:
        raise UsageError(
            f"{chosen['model']} does not declare what kind of encoder it needs; annotate the argument as"
            " `encoder: Encoder` or `encoder: TokenEncoder`."
        )
    kind = kind_of_encoder(request, names)
    data_args = argument_defaults(data) | _suited_data(method, data, chosen, names) | _given("data", chosen)
    suited_encoders = data.suited_encoders(data_args)
    default = names.expand(suited_encoders.get(kind), ("model", "encoder"))
    path = chosen.get("model.encoder")
    model = names.registries["methods"].name_of(chosen["model"])
    if path is None and default is None:
        dataset = names.registries["datamodules"].name_of(chosen["data"])
        raise UsageError(_without_encoder(model, dataset, data, data_args, kind, names))
    encoder = class_of(path, "encoders", names)
    if isinstance(encoder, type) and kind != "Encoder" and not issubclass(encoder, KINDS[kind]):
        raise UsageError(f"{model} needs a {kind}, but {encoder.__name__} is not one; choose {REMEDIES[kind]}.")
    reader = encoder if path is not None else class_of(default["class_path"] if default else None, "encoders", names)
    suited_args = {
        key: value
        for key, value in getattr(method, "suited_encoder_args", {}).items()
        if not isinstance(reader, type) or takes(reader, key, value)
    }
    given = _given("model.encoder", chosen)
    if path is None and default is not None:
        init_args = default.get("init_args", {}) | suited_args
        kept = reader.suited_args(init_args | given) if hasattr(reader, "suited_args") else init_args
        return {**default, "init_args": {key: value for key, value in init_args.items() if key in kept}}
    if default is None:
        return {"class_path": path, "init_args": suited_args} if suited_args else None
    known = [suited.get("init_args", {}) for suited in (*suited_encoders.values(), default)]
    follows = getattr(encoder, "follows_data", ())
    from_data = {key: value for args in (data_args, *known) for key, value in args.items() if key in follows}
    init_args = from_data | suited_args
    init_args = {key: value for key, value in init_args.items() if encoder and key in parameters(encoder)}
    if hasattr(encoder, "suited_args"):
        suited = encoder.suited_args(init_args | given)
        init_args = {key: value for key, value in suited.items() if key not in given}
    if "name" in given:
        init_args["name"] = given["name"]
    return {"class_path": path, "init_args": init_args}


def _without_encoder(model: str, dataset: str, data: Any, data_args: dict[str, Any], kind: str, names: Names) -> str:
    """The message for data that has no default encoder of a kind: what is wrong, and the remedy."""
    reads = f"{model} needs a {kind}, which reads {KINDS[kind].reads}"
    suited_data = {name: value for name, value in KINDS[kind].suited_data.items() if name in parameters(data)}
    settings = [f"--data.{name} {value}" for name, value in suited_data.items() if data_args.get(name) != value]
    if settings:
        return f"{reads}: set {' '.join(settings)}, or leave it out."
    encoders = data.suited_encoders(data_args)
    methods = [name for name in names.registries["methods"] if _method_suits(name, set(encoders), names)]
    suited = [name for name in names.registries["datamodules"] if _suits(name, kind, names)]
    classes = [
        class_of(names.expand(each, ("model", "encoder"))["class_path"], "encoders", names)
        for each in encoders.values()
    ]
    special = {getattr(each, "reads", KINDS["Encoder"].reads) for each in classes} - {KINDS["Encoder"].reads}
    choices = [
        f"choose data that has: {', '.join(suited)}" if suited else "",
        f"choose a method for {dataset}: {', '.join(methods)}" if methods else "",
        "" if special and KINDS[kind].reads not in special else "name one with --model.encoder",
    ]
    remedy = "; or ".join(filter(None, choices))
    return f"{reads}, but {dataset} has no default one. {remedy[:1].upper()}{remedy[1:]}."


def _method_suits(name: str, kinds: set[str], names: Names) -> bool:
    """Whether a registered method needs an encoder of one of these kinds."""
    try:
        return needed_encoder(names.registries["methods"][name]) in kinds
    except Exception:  # a broken plug-in is not suggested
        return False


def _suits(name: str, kind: str, names: Names) -> bool:
    """Whether a registered datamodule has a default encoder of a kind."""
    try:
        data = names.registries["datamodules"][name]
        arguments = argument_defaults(data)
        arguments |= {key: value for key, value in KINDS[kind].suited_data.items() if key in arguments}
        return kind in data.suited_encoders(arguments)
    except Exception:  # a broken plug-in is not suggested
        return False


def _suited_data(method: type, data: Any, chosen: dict[str, Any], names: Names) -> dict[str, Any]:
    """The datamodule's arguments that the encoder needs: the named encoder, that of a checkpoint,
    or else the kind that the method needs."""
    pretrained = _pretrained(method, chosen)
    path = chosen.get("model.encoder") if pretrained is None else pretrained["class_path"]
    encoder = class_of(path, "encoders", names) or KINDS[needed_encoder(method)]
    suited = dict(getattr(encoder, "suited_data", {}))
    if hasattr(encoder, "data_args"):
        suited |= encoder.data_args(_given("model.encoder", chosen))
    return {name: value for name, value in suited.items() if name in parameters(data)}


def kind_of_encoder(request: Request, names: Names) -> str:
    """The kind of encoder (a name of `KINDS`) by which the chosen method annotates its argument."""
    method = class_of(request.chosen.get("model"), "methods", names)
    return needed_encoder(method) if isinstance(method, type) else "Encoder"


def _given(key: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The arguments that were given below a key, such as `data` or `model.encoder`."""
    return {name.removeprefix(f"{key}."): value for name, value in chosen.items() if name.startswith(f"{key}.")}


def class_of(path: Any, kind: str, names: Names) -> Any:
    """The class of a class path; None: there is no path, or it does not import, and the parser
    reports the error."""
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
