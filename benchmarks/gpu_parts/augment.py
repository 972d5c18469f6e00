"""Two views of 224 pixels with blur, by SimCLR's recipe for ImageNet, from images on the device."""

from __future__ import annotations

import statistics
from dataclasses import replace

import torch

from ssl_lightning import PictureDataModule, fold
from ssl_lightning.augment.random import sample_keys

from .clock import DEVICE, FULL, bar, by_turns, memory, spread
from .sheet import Sheet

BAR = 10_000
SAMPLES, SOURCE, SIZE, ROUNDS, STEPS = (256, 256, 224, 7, 10) if FULL else (4, 80, 72, 2, 1)


def run(sheet: Sheet, names: list[str]) -> None:
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape = (SAMPLES, 3, SOURCE, SOURCE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=DEVICE, generator=generator)
    keys = sample_keys(0, 0, torch.arange(SAMPLES, device=DEVICE))
    works = {}
    for blur in (0.5, 0.0):
        view = replace(PictureDataModule.policy, blur_p=blur).build("strong", SIZE).to(DEVICE)
        works[f"{'with' if blur else 'without'} blur"] = lambda view=view: [
            view(images, fold(keys, number)) for number in range(2)
        ]
    for number, (title, seconds) in enumerate(by_turns(works, ROUNDS, STEPS).items()):
        rates = [SAMPLES / each for each in seconds]
        sheet.tell(
            f"two views of {SIZE} pixels {title}, of {SAMPLES} images of {SOURCE}: images/s",
            "" if number else f">= {BAR:,}",
            f"{spread(rates, ',.0f')}; {memory():.1f} GiB",
            None if number else bar(statistics.median(rates) >= BAR),
            rates=rates,
        )
