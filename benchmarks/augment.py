"""Images augmented per second on one CPU core, two 32x32 RGB views each: this package, lightly, torchvision.

    python benchmarks/augment.py

Crop, flip, colour jitter, greyscale, normalisation; no blur. The three run in turns; medians over the rounds. lightly and
torchvision get one image at a time, as PIL images, which their loaders hand them; this package gets a uint8 batch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torchvision.transforms import v2

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.augment.random import fold, sample_keys

ROUNDS, BATCH, SIZE = 15, 256, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def contestants(images: torch.Tensor) -> dict[str, Callable[[], object]]:
    index = torch.arange(BATCH)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    ours = ImagePolicy(jitter=(0.8, 0.8, 0.8, 0.2), mean=MEAN, std=STD).build("strong", SIZE)
    lightly = SimCLRTransform(input_size=SIZE, gaussian_blur=0)
    torchvision = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )

    def run_ours() -> object:
        key = sample_keys(0, 0, index)
        return [ours(images, fold(key, view)) for view in range(2)]

    return {
        "ssl_lightning, batch of 256": run_ours,
        "lightly SimCLRTransform": lambda: torch.stack([view for picture in pictures for view in lightly(picture)]),
        "torchvision v2": lambda: torch.stack([torchvision(picture) for picture in pictures for _ in range(2)]),
    }


def main() -> None:
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    runs = contestants(images)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: BATCH / statistics.median(values) for name, values in seconds.items()}
    print(f"| two {SIZE}x{SIZE} views, one core, torch {torch.__version__} | images/s | against lightly |\n| --- | --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {rate / rates['lightly SimCLRTransform']:.1f} |")


if __name__ == "__main__":
    main()
