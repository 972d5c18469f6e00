"""How the encoder of a run reads data: by which class, and with which arguments."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data.datamodule import SSLDataModule
from ..encoders.published import is_published, published
from ..plugins.archive import read
from ..plugins.arguments import parameters
from ..plugins.gate import judge_arguments, trusted_class
from ..plugins.run_record import config_in
from .checkpoints.checkpoint import newest_of
from .checkpoints.encoder_file import header_of
from .pretrained import artifacts_of


def data_class_of(path: str | Path, trust: Iterable[str] = ()) -> type[SSLDataModule]:
    """The class by which a run's data was read: of its modality, or of the data set itself where
    the encoder's file does not say.

    Args:
        path: a run folder, checkpoint or encoder's file; or published weights by name.
        trust: further packages whose classes the file may name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing says which class, or it is not to be trusted.
    """
    if is_published(path):
        return published(path).data
    path = Path(path)
    file = path / "encoder.safetensors" if path.is_dir() else path
    name: Any = None
    if file.suffix == ".safetensors" and file.is_file():
        name = header_of(file).get("reads")
    if name is None and (path.is_dir() or file.suffix != ".safetensors"):
        checkpoint = newest_of(path)
        data = config_in(read(checkpoint), checkpoint).get("data")
        name = data.get("class_path") if isinstance(data, dict) else data
    if not isinstance(name, str):
        raise ValueError(
            f"{str(path)!r} does not say what kind of data its encoder reads; give the run folder, or a checkpoint."
        )
    cls: type = trusted_class(name, repr(str(path)), trust)
    if not issubclass(cls, SSLDataModule):
        raise ValueError(f"{str(path)!r} names {name!r} as its data, which is no datamodule of ssl_lightning.")
    return cls


def arguments_for(cls: type[SSLDataModule], path: str | Path) -> dict[str, Any]:
    """The arguments with which a datamodule class makes the same views as a run.

    Args:
        cls: the class.
        path: the run folder, checkpoint or encoder's file.

    Raises:
        OSError, ValueError: what the run left is missing or damaged.
    """
    given = is_published(path)
    arguments = published(path).arguments if given else cls.arguments_of(artifacts_of(path), str(path))
    arguments = {name: value for name, value in arguments.items() if name in parameters(cls)}
    judge_arguments(cls, arguments, repr(str(path)))
    return arguments
