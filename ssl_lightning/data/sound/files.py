"""A source of the sound files of a list."""

from __future__ import annotations

import os
from typing import Any

from ...plugins.messages import printable
from ..files.contents import stamp
from ..files.folders import AnyList
from ..files.manifest import Manifest
from .recording import SoundFile
from .source import SoundSource


class SoundFiles(SoundSource):
    """A source of the sound files of a list, or of stretches of them.

    Args:
        files: the paths, by index; a `Manifest` also has their stretches.
        sample_rate: in Hz, to which recordings are resampled when read.
        others: further arguments of `SoundSource`.
    """

    def __init__(self, files: AnyList | Manifest, sample_rate: int, *others: Any) -> None:
        super().__init__(len(files), sample_rate, *others)
        self.files, self.fingerprint, self.left_out = files, files.fingerprint, files.left_out

    def open(self, number: int) -> SoundFile:
        stretch = self.files.stretch(number) if isinstance(self.files, Manifest) else (0.0, None)
        return SoundFile(self.files[number], *stretch)

    def name(self, number: int) -> str:
        return printable(self.files[number])

    def stamp(self, number: int) -> str:
        try:
            state = os.stat(self.files[number])
        except OSError:
            return self.name(number)
        stretch = self.files.stretch(number) if isinstance(self.files, Manifest) else ""
        return f"{self.files[number]} {stamp(state)} {stretch}"
