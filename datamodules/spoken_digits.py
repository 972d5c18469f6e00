"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.files.file_list import list_files
from ssl_lightning.data.files.manifest import Columns, Manifest, Recording
from ssl_lightning.data.ledger import Tally
from ssl_lightning.data.sound.datamodule import SoundDataModule
from ssl_lightning.data.sound.files import SoundFiles
from ssl_lightning.data.sources import Source
from ssl_lightning.plugins.messages import printable

NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav", re.IGNORECASE)
TEST = 5
"""Recordings of each speaker and digit whose index is below this are the test split."""


class SpokenDigits(SoundDataModule):
    """Spoken digits (FSDD): 3,000 recordings of half a second at 8 kHz, 10 digits, 6 speakers, two
    label sets.

    A folder of `{digit}_{speaker}_{index}.wav`; the indices 0 to 4 are the test split, as its
    authors define it: 2,700 train, 300 test. The labels that are not chosen are a further probe
    set. Views are not mixed with other recordings: with another word in the background, SimCLR's
    accuracy on digits was 3 to 5 points lower. Source: Jackson et al.,
    github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0.

    Args:
        root: the folder of the recordings.
        labels: `digit` or `speaker`.
        probe_sets: further labelled data sets to probe on, by name; None: the other labels, by
            their name; `{}`: no further sets.
    """

    default_epochs = 100
    policy = SoundPolicy(shift=(0.0, 0.2), noise_p=0.0, mix=0.0)

    def __init__(
        self,
        root: str,
        *,
        labels: Literal["digit", "speaker"] = "digit",
        sample_rate: int = 8000,
        mels: int = 48,
        window: float = 0.032,
        seconds: float | None = 0.8,
        probe_sets: dict[str, SSLDataModule] | None = None,
        **kwargs: Any,
    ) -> None:
        if labels not in ("digit", "speaker"):
            raise ValueError(f"labels={labels!r} is unknown; choose digit or speaker.")
        other: Literal["digit", "speaker"] = "speaker" if labels == "digit" else "digit"
        if own_set := probe_sets is None:
            same: dict[str, Any] = {"sample_rate": sample_rate, "mels": mels, "window": window, "seconds": seconds}
            probe_sets = {other: SpokenDigits(root, labels=other, probe_sets={}, **same, **kwargs)}
        super().__init__(
            sample_rate=sample_rate, mels=mels, window=window, seconds=seconds, probe_sets=probe_sets, **kwargs
        )
        self.labels = labels
        if own_set:
            self.probe_sets[other].relabels = self
        self.folder = Path(root).expanduser()
        list_files(self.folder, [".wav"])  # raises if it is unusable, before an encoder is built

    def source(self, split: Split) -> Source | None:
        chosen = self.recordings.of_split(split)
        if chosen is None:
            return None
        self.class_names = chosen.class_names
        return SoundFiles(chosen, self.sample_rate, chosen.labels, self.unreadable, self.max_unreadable)

    def beside(self) -> Tally | None:
        left_out = list_files(self.folder, [".wav"]).left_out
        return Tally("elsewhere", "files", {}, left_out) if left_out else None

    @cached_property
    def recordings(self) -> Manifest:
        """All recordings, with the class and split that their names give."""
        files = list_files(self.folder, [".wav"])
        recordings = []
        for number in range(len(files)):
            name = NAME.fullmatch(Path(files.relative(number)).name)
            if name is None:
                odd = printable(files[number])
                raise ValueError(
                    f"{odd} is not named {{digit}}_{{speaker}}_{{index}}.wav. Remove it, or use --data audio_folder."
                )
            label = name[1] if self.labels == "digit" else name[2]
            recordings.append(
                Recording(files.relative(number), label, "test" if int(name[3]) < TEST else "train", 0.0, None)
            )
        return Manifest(files.root / "names", Columns(label=self.labels), recordings)
