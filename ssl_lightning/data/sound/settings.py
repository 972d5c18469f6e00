"""The arguments by which a run makes views of recordings; they are written into `sound.json`."""

from __future__ import annotations

import json
from typing import Any

from ...augment.log_mel import LogMel

SOUND = "sound.json"
"""The file with these arguments of the datamodule, and `varies`: whether rows vary in length."""
LENGTH = ("seconds", "varies")
"""Arguments that may differ between data sets for one encoder."""


def arguments_in(text: str) -> dict[str, Any]:
    """Returns the arguments of a `SoundDataModule` in the text of a `sound.json`."""
    return {name: value for name, value in json.loads(text).items() if name != "varies"}


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
