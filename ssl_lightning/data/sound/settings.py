"""The arguments by which a run makes views of recordings; they are written into `sound.json`."""

from __future__ import annotations

import json
from typing import Any

from ...augment.log_mel import LogMel
from ...plugins.gate import read_json
from ...plugins.messages import did_you_mean

SOUND = "sound.json"
"""The file with these arguments of the datamodule, and `varies`: whether rows vary in length."""
ARGUMENTS = (
    "features", "sample_rate", "seconds", "normalise", "mels", "window", "hop", "spectrogram", "statistics",
)  # fmt: skip
"""What it may hold of them."""
LENGTH = ("seconds", "varies")
"""Arguments that may differ between data sets for one encoder."""


def check_settings(features: str, spectrogram: str, statistics: tuple[float, float] | None) -> None:
    """Raises ValueError for an argument of a `SoundDataModule` that it does not know."""
    for name, value, known in (
        ("features", features, ("log_mel", "wave")),
        ("spectrogram", spectrogram, ("plain", "kaldi")),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown.{did_you_mean(value, known)} Choose {' or '.join(known)}.")
    if statistics is not None and not (len(statistics) == 2 and statistics[1] > 0):
        raise ValueError(
            f"statistics={list(statistics)} does not fit: give a mean and a positive standard deviation, such as"
            " [-6.0, 3.5]."
        )


def arguments_in(text: str) -> dict[str, Any]:
    """Returns the arguments of a `SoundDataModule` in the text of a `sound.json`; what else it
    holds is left out.

    Raises:
        ValueError: it is not such a text.
    """
    given = read_json(text, SOUND)
    if not isinstance(given, dict):
        raise ValueError(f"{SOUND} holds no arguments by name.")
    return {name: given[name] for name in ARGUMENTS if name in given}


def difference(current: str, recorded: str) -> str:
    """Says in what the views of two `sound.json` differ: "mels=64, not 48"; empty if they do not.
    Recordings may be cut to another length."""
    given, expected = json.loads(current), json.loads(recorded)
    return ", ".join(
        f"{name}={given.get(name)}, not {value}"
        for name, value in expected.items()
        if name not in LENGTH and given.get(name) != value
    )


def log_mel(sample_rate: int, mels: int, window: float, hop: float, spectrogram: str) -> LogMel:
    """Returns the module that computes log-mels by these arguments of a `SoundDataModule`."""
    if spectrogram == "kaldi":
        return LogMel.kaldi(sample_rate, mels=mels, window=window, hop=hop, edges="pad")
    return LogMel(sample_rate, mels=mels, window=window, hop=hop)


def samples_of(sample_rate: int, seconds: float) -> int:
    """Returns the number of samples in so many seconds."""
    return round(seconds * sample_rate)
