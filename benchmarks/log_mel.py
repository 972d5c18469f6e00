"""Log-mels of a batch: this package's, for the whole batch, against librosa clip by clip, one
thread each.

    python benchmarks/log_mel.py            # a few seconds on a quiet core

64 clips of 1 s at 16 kHz, 64 bands, a Hann window of 25 ms every 10 ms in spectra of 512 samples,
triangles as HTK's. librosa pads as ours does (`center=False` on a padded clip). Its values are
compared with ours first; where they differ the program stops. librosa computes its filters anew for
each clip, as a loop over `librosa.feature.melspectrogram` does; a second row keeps them. Who begins
a round alternates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import librosa
import numpy as np
import torch
from common import machine
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ssl_lightning.augment.log_mel import LogMel

CLIPS, SECONDS, RATE, BAR = 64, 1.0, 16_000, 5.0
TOLERANCE = 5e-3
"""Of a logarithm: float32 rounds the energy of a faint band beside loud ones."""
Floats = NDArray[np.float32]


def clips() -> Floats:
    """Chirps over noise, [S, T]."""
    random = np.random.default_rng(0)
    moment = np.arange(int(RATE * SECONDS)) / RATE
    chirps = np.sin(2 * np.pi * (100 + 3000 * moment * random.random((CLIPS, 1))) * moment)
    return (0.3 * chirps + 0.01 * random.standard_normal(chirps.shape)).astype(np.float32)


class Librosa:
    """Log-mels by librosa, clip by clip, with the parameters of a `LogMel`."""

    def __init__(self, mel: LogMel, keep_filters: bool) -> None:
        self.mel, self.keep_filters = mel, keep_filters
        inner, outer = (
            mel.window - mel.hop,
            mel.size - mel.window,
        )  # librosa puts a window into the middle of its spectrum's samples
        self.sides = (inner // 2 + outer // 2, inner - inner // 2 + outer - outer // 2)
        self.filters = librosa.filters.mel(sr=RATE, n_fft=mel.size, n_mels=mel.mels, htk=True, norm=None)

    def __call__(self, waves: Floats) -> Floats:
        return np.stack([np.log(np.maximum(self.power(np.pad(wave, self.sides)), self.mel.floor)) for wave in waves])

    def power(self, wave: Floats) -> Floats:
        shared = {
            "n_fft": self.mel.size,
            "hop_length": self.mel.hop,
            "win_length": self.mel.window,
            "window": "hann",
            "center": False,
        }
        if self.keep_filters:
            return self.filters @ (np.abs(librosa.stft(wave, **shared)) ** 2)
        return librosa.feature.melspectrogram(y=wave, sr=RATE, n_mels=self.mel.mels, htk=True, norm=None, **shared)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(values: list[float], form: str) -> str:
    """Median, and the range in brackets."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    threadpool_limits(1)
    torch.set_num_threads(1)
    print(f"{machine()}, librosa {version('librosa')}\n{CLIPS} clips of {SECONDS:g} s at {RATE} Hz\n")
    waves, mel = clips(), LogMel(RATE)
    batch = torch.from_numpy(waves)
    by_clip, kept = Librosa(mel, False), Librosa(mel, True)
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: mel(batch),
        "librosa": lambda: by_clip(waves),
        "librosa, filters kept": lambda: kept(waves),
    }
    ours = mel(batch).numpy()
    for name, librosas in (("librosa", by_clip(waves)), ("librosa, filters kept", kept(waves))):
        apart = float(np.abs(librosas[:, :, : ours.shape[2]] - ours).max())
        print(f"{name}: values at most {apart:.1e} apart from ours, of {ours.min():.1f} to {ours.max():.1f}")
        if librosas.shape != ours.shape or apart > TOLERANCE:
            raise SystemExit(f"{name} computes something else: shape {librosas.shape} against {ours.shape}.")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for round_ in range(args.rounds):
        for name in list(contestants) if round_ % 2 == 0 else reversed(contestants):
            seconds[name].append(timed(contestants[name]))
    print(f"\nms a batch on one thread, medians over {args.rounds} rounds [range], and how often ours fits into it\n")
    print(
        "| | wall | processor | wall / ours | processor / ours | bar | |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, times in seconds.items():
        cells = [spread([1000 * each[clock] for each in times], ".1f") for clock in (0, 1)]
        ratios = [
            [each[clock] / own[clock] for each, own in zip(times, seconds["ours"], strict=True)] for clock in (0, 1)
        ]
        judged = name == "librosa"
        met = "met" if statistics.median(ratios[0]) >= BAR else "not met"
        compared = ["", ""] if name == "ours" else [spread(ratio, ".1f") for ratio in ratios]
        print(f"| {' | '.join((name, *cells, *compared, f'{BAR:g}' if judged else '', met if judged else ''))} |")
    print(f"\nIn the end: load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
