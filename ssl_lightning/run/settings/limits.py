"""Values of the trainer's arguments with which no run can go on, refused before anything is
built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from ...plugins.arguments import require
from ...plugins.messages import printable
from ...plugins.record import PLAIN

LENGTHS = ("max_epochs", "max_steps")
MOST_MINUTES = 1_000_000
AT_LEAST_1 = (
    "accumulate_grad_batches",
    "log_every_n_steps",
    "check_val_every_n_epoch",
    "num_nodes",
)
AT_LEAST_0 = (
    "gradient_clip_val",
    "min_epochs",
    "min_steps",
    "reload_dataloaders_every_n_epochs",
)
OTHERS = ("logger", "precision")
"""Arguments that take more than Lightning's, and have checks of their own."""
WITHOUT_EFFECT = {"val_check_interval": (None, 1.0), "check_val_every_n_epoch": (None, 1)}
"""Arguments that mean nothing to a run which has no validation loop, with their defaults."""


def check_values(given: Mapping[str, Any]) -> None:
    """Checks the arguments of the trainer.

    Args:
        given: those that were given, by name.

    Raises:
        TypeError: a plain value is not of the argument's type.
        ValueError: a value is out of range, or leaves nothing to train.
    """
    hints = get_type_hints(pl.Trainer.__init__)
    for name, value in given.items():
        if name in hints and name not in OTHERS:
            _check_type(name, value, hints[name])
    for name in LENGTHS:
        value = given.get(name)
        if value is not None and value < 1 and value != -1:
            raise ValueError(
                f"Trainer({name}={value}) trains nothing: give at least 1, or -1 for no limit. `ssl-lightning test`"
                " evaluates an encoder as it is."
            )
    share = given.get("limit_train_batches")
    if share is not None and share <= 0:
        raise ValueError(
            f"Trainer(limit_train_batches={share}) trains nothing: give a number of batches, a share above 0, or leave"
            " it out."
        )
    require("Trainer", at_least=1, **{name: given.get(name) for name in AT_LEAST_1})
    require("Trainer", at_least=0, **{name: given.get(name) for name in AT_LEAST_0})
    if given.get("gradient_clip_algorithm") and given.get("gradient_clip_val") is None:
        raise ValueError(
            f"Trainer(gradient_clip_algorithm={given['gradient_clip_algorithm']!r}) clips nothing without"
            " gradient_clip_val; give both."
        )
    _check_time(given.get("max_time"))


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Refuses a number, text or truth value of another type than the argument's, and anything else
    where the argument is one of these. Objects are Lightning's to judge."""
    kinds = set(_kinds(hint))
    if type(value) in kinds or Any in kinds or (not isinstance(value, PLAIN) and not kinds <= set(PLAIN)):
        return
    number = Real if float in kinds else Integral
    if {int, float} & kinds and isinstance(value, number) and not isinstance(value, bool):
        return  # an integer will do for a float, and numpy's numbers for both
    plain = [kind.__name__ for kind in (bool, int, float, str) if kind in kinds]
    raise TypeError(f"Trainer({name}={value!r}) must be {' or '.join(plain) or 'an object'}.")


def _kinds(hint: Any) -> list[Any]:
    """The types that a union is made of; those of a Literal's values."""
    if get_origin(hint) is Literal:
        return [type(value) for value in get_args(hint)]
    if get_origin(hint) is Union:
        return [kind for member in get_args(hint) for kind in _kinds(member)]
    return [get_origin(hint) or hint]


def _check_time(duration: str | timedelta | dict[str, int] | None) -> None:
    if duration is None:
        return
    left = Timer(duration).time_remaining()
    if left is not None and left <= 0:
        raise ValueError(f"Trainer(max_time={duration!r}) trains nothing: give a time above 0, or leave it out.")


def check_minutes(minutes: float, given: Mapping[str, Any], table: float | Literal["auto"]) -> None:
    """Checks the minutes of a run.

    Args:
        minutes: for all that the run does.
        given: the other arguments of the trainer, by name.
        table: minutes of the closing table.

    Raises:
        TypeError: they are not a number.
        ValueError: they are out of range, are not the only length of the run, or leave nothing to
            train.
    """
    _check_type("minutes", minutes, float)
    name = f"Trainer(minutes={minutes:g})"
    if not 0 < minutes <= MOST_MINUTES:
        raise ValueError(
            f"{name} is out of range: give a number of minutes above 0 and at most {MOST_MINUTES:,}, or leave it out."
        )
    for length in (*LENGTHS, "max_time"):
        if given.get(length) not in (None, -1):
            raise ValueError(f"{name} and {length}={given[length]!r} both end the run: give only one of them.")
    if table == 0:
        raise ValueError(f"{name} and Report(minutes=0), which is no limit, exclude each other: give only one of them.")
    if table != "auto" and table >= minutes:
        raise ValueError(f"Report(minutes={table:g}) leaves nothing of {name} to train: give it less.")


def check_order(given: Mapping[str, Any]) -> None:
    """Refuses arguments that mean something else, or nothing, to a run on a datamodule: it has no
    validation loop, and its order is endless.

    Raises:
        ValueError: one of them is given.
    """
    if given.get("overfit_batches"):
        raise ValueError(
            f"Trainer(overfit_batches={given['overfit_batches']}) would bring other samples in each epoch: the order of"
            " samples is endless. Train on data of so many samples (--data.samples, where the data has it)."
        )
    for name, defaults in WITHOUT_EFFECT.items():
        if given.get(name, defaults[1]) not in defaults:
            raise ValueError(
                f"Trainer({name}={given[name]}) has no effect: pretraining has no validation loop. Probes look at the"
                " run every so many steps: --knn_probe.every_n_steps, --online_probe.eval_every_n_steps."
            )


def why_unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not exist yet; empty: it can."""
    folder = Path(os.path.abspath(folder))
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        return f"{printable(nearest)} is no folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{printable(nearest)} may not be written to"


def check_root(root: str | Path) -> None:
    """Checks that folders can be made where runs are written; makes none.

    Raises:
        ValueError: the folder is a file, is not local, or cannot be made.
    """
    if "://" in str(root):
        raise ValueError(f"default_root_dir={str(root)!r} is not a folder of this machine, where runs are written.")
    path = Path(os.path.abspath(root))
    reason = why_unwritable(path)
    if not reason:
        return
    raise ValueError(
        f"No run can be written to default_root_dir={printable(path)}: {reason}. Choose another with"
        " --trainer.default_root_dir."
    )
