"""How a run makes views of recordings: the arguments that are written into `sound.json`."""

from __future__ import annotations

import json
from typing import Any

from ...augment.log_mel import LogMel

SOUND = "sound.json"
"""The file with these arguments of the datamodule, and whether rows `varies` in length."""
LENGTH = ("seconds", "varies")
"""What may differ between data for one encoder."""


def arguments_in(text: str) -> dict[str, Any]:
    """The arguments of a `SoundDataModule` in the text of a `sound.json`."""
    return {name: value for name, value in json.loads(text).items() if name != "varies"}


def difference(ours: str, theirs: str) -> str:
    """In what two `sound.json` make other views: "mels=64, not 48"; empty where they make the same.
    Recordings may be cut at another length."""
    given, expected = json.loads(ours), json.loads(theirs)
    return ", ".join(
        f"{name}={given.get(name)}, not {value}"
        for name, value in expected.items()
        if name not in LENGTH and given.get(name) != value
    )


def log_mel(sample_rate: int, mels: int, window: float, hop: float, spectrogram: str) -> LogMel:
    """What makes log-mels, for these arguments of a `SoundDataModule`."""
    if spectrogram == "kaldi":
        return LogMel.kaldi(sample_rate, mels=mels, window=window, hop=hop, edges="pad")
    return LogMel(sample_rate, mels=mels, window=window, hop=hop)


def samples_of(sample_rate: int, seconds: float) -> int:
    """Samples in so many seconds."""
    return round(seconds * sample_rate)
