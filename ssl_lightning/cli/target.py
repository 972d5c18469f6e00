"""The data that a command applies a run's encoder to: a data set by name, or files, a folder or a
list; read as the run read its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.datamodule import SSLDataModule
from ..plugins.messages import did_you_mean
from ..plugins.registry import BrokenPlugin
from ..run.reading import arguments_for, data_class_of
from .command import load, worded
from .data import build
from .defaults import class_of, lowest_layer
from .names import CLASS_PATH, KINDS, Names, UsageError
from .request import read_request


def data_for(run: str, target: str, options: Sequence[str]) -> SSLDataModule:
    """Builds the datamodule of a target, whose views are made as in a run unless the options say
    otherwise.

    Args:
        run: a run folder, a checkpoint or an encoder's file.
        target: the name of a data set, or a path.
        options: `--data.NAME VALUE`, as `fit` takes them.

    Raises:
        UsageError, FileNotFoundError, ValueError: the user made a mistake.
    """
    names = Names(load)
    registry = names.registries[KINDS["data"]]
    of_files: list[str] = []
    name = target
    if target not in registry and not CLASS_PATH.fullmatch(target):
        if not Path(target).expanduser().exists():
            near = did_you_mean(target, registry)
            raise UsageError(
                f"There is no file, folder or data set {target!r}.{near} Data sets: {', '.join(registry)}."
            )
        name = _reader_of_files(run, names)
        of_files = [f"--data.{registry[name].takes_files}", target]
    request = read_request(["fit", "--data", name, *of_files, *options], names)
    cls = class_of(request.chosen["data"], "datamodules", names)
    reads = data_class_of(run).reads_items()
    if reads is not None and isinstance(cls, type) and not issubclass(cls, reads):
        raise UsageError(
            f"{run!r} was trained on data of {reads.__name__}, and {name} is none; its encoder cannot read it."
        )
    with worded(request, names):
        layer = lowest_layer(request, names)
        if isinstance(cls, type):
            layer["data"]["init_args"].update(arguments_for(cls, run))
        data: SSLDataModule = build(request, names, layer)["data"]
        data.prepare_data()
    return data


def _reader_of_files(run: str, names: Names) -> str:
    """The name of the datamodule that reads any files of the modality of a run.

    Raises:
        UsageError: none is installed.
    """
    cls = data_class_of(run)
    reads, registry = cls.reads_items(), names.registries[KINDS["data"]]
    for name in registry:
        try:
            each = registry[name]
        except BrokenPlugin:
            continue
        if getattr(each, "takes_files", "") and reads is not None and issubclass(each, reads):
            return name
    raise UsageError(
        f"No installed data set reads files as {cls.__name__} does, on which {run!r} was trained; name a data set."
    )
