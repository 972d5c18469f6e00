"""An encoder is written for another library, and done only when that library gives the same
features."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.files.atomic import atomic_folder, write_text
from ..plugins.messages import printable
from .card import CARD, card_of
from .formats import FORMATS, format_of
from .formats.base import Format, Refused
from .subject import Subject, subject_of

TOLERANCE = 1e-5
"""Largest difference of a feature in the other library, as a part of the largest feature."""
BATCHES = (1, 3)
"""Samples in the batches on which features are compared."""


class Exported(NamedTuple):
    """What an export wrote.

    Args:
        folder: with the model, what prepares its inputs, and the card.
        format: the format's name.
        samples: on which features were compared.
        difference: the largest of a feature, as a part of the largest feature.
        lines: Python that prepares an item, loads the model and computes its features, without this
            package.
    """

    folder: str
    format: str
    samples: str
    difference: float
    lines: str


def export(run: str | Path, name: str, folder: str | Path) -> Exported:
    """Writes the encoder of a run for another library. The folder is written whole or not at all:
    what was written is loaded again by that library alone, and must give the same features.

    Args:
        run: as `load_encoder` takes it.
        name: of the format, a key of `FORMATS`.
        folder: the folder to write; it must not exist yet, or be empty.

    Raises:
        FileNotFoundError: there is no such run.
        FileExistsError: the folder is not empty.
        ImportError: the format's library is not installed.
        ValueError: there is no such format, it does not hold this encoder, or the features differ.
    """
    format, target = format_of(name), Path(folder).expanduser()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise FileExistsError(f"{str(target)!r} exists already; give a folder that does not exist yet, or is empty.")
    format.check_installed()
    subject = subject_of(run)
    try:
        format.check(subject)
        with atomic_folder(target) as temporary:
            return _written(format, subject, temporary, target)
    except Refused as error:
        raise ValueError(refusal(name, subject, error)) from error


def _written(format: Format, subject: Subject, temporary: Path, target: Path) -> Exported:
    format.write(subject, temporary)
    difference = max(differences(format, subject, temporary))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"Nothing is written: {format.library} gives features that differ by {difference:.1e} of the largest"
            f" feature on {subject.samples}, more than {TOLERANCE:.0e}."
        )
    lines = code_of(format, subject, temporary, target)
    exported = Exported(str(target), format.name, subject.samples, difference, lines)
    write_text(temporary / CARD, card_of(format, subject, exported, temporary))
    return exported


def code_of(format: Format, subject: Subject, temporary: Path, target: Path) -> str:
    """The lines of Python for the card, and the files that they read."""
    told, load = subject.preparation, format.lines(subject, str(target))
    if told is None or not told.lines:
        return load if "import torch\n" in load else f"import torch\n{load}"
    for name, text in told.files.items():
        if not (temporary / name).exists():
            write_text(temporary / name, text)
    return f"{told.lines.replace('{folder}', str(target))}\n{load}"


@torch.no_grad()
def differences(format: Format, subject: Subject, folder: Path) -> list[float]:
    """The largest difference of a feature that the other library gives from ours, as a part of the
    largest feature, for batches of several sizes."""
    expected, inputs = subject.encoder(subject.view), subject.inputs
    there = {count: format.features(subject, folder, inputs.repeated(count)) for count in BATCHES}
    return [_difference(features, repeated(expected, count)) for count, features in there.items()]


def repeated(features: Tensor, samples: int) -> Tensor:
    """The first rows, from the start again where there are not so many."""
    return features[torch.arange(samples) % len(features)]


def _difference(there: Tensor, here: Tensor) -> float:
    if there.shape != here.shape:
        raise ValueError(f"The features have the shape {list(there.shape)} there, and {list(here.shape)} here.")
    return float((there.float() - here.float()).abs().max() / here.abs().max().clamp(min=1e-12))


def refusal(name: str, subject: Subject, error: Exception) -> str:
    """Why a format does not hold an encoder, and which do."""
    without = (name, *(error.also if isinstance(error, Refused) else ()))
    others = [other for other in held_by(subject) if other not in without]
    listed = f" Formats that hold it: {', '.join(others)}." if others else ""
    return f"The format {name} does not hold this encoder: {printable(subject.run)!r} {error}.{listed}"


def held_by(subject: Subject) -> list[str]:
    """The names of the formats that hold an encoder, whether or not they are installed."""
    names = []
    for name in FORMATS:
        try:
            format_of(name).check(subject)
        except ImportError:
            pass
        except ValueError:
            continue
        names.append(name)
    return names


def choice(run: str | Path) -> str:
    """The sentence that lists the formats which hold the encoder of a run, where none is chosen."""
    subject = subject_of(run)
    names = held_by(subject)
    kind = type(subject.encoder).__name__
    return f"Choose a format: --format {', '.join(names)}; these hold the {kind} of {printable(run)!r}."
