"""`ssl-lightning embed` of a folder against a bare forward loop over the same loader, by turns.

    python benchmarks/embed.py                # 2,000 JPEGs of 320x240 pixels, ResNet-18 at 128
    python benchmarks/embed.py --samples 500

The bare loop takes the batches of the same loader and calls the encoder; `embed` also writes paths,
labels and vectors to parquet. Medians over the rounds; the bar is a ratio of 0.95.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import machine
from PIL import Image
from ssl_lightning.datamodules.image_folder import ImageFolder

from ssl_lightning import TimmEncoder
from ssl_lightning.data.peek import peek_each
from ssl_lightning.encoders.base import Encoder
from ssl_lightning.evaluation.use.embedding import Embedding, Wanted
from ssl_lightning.evaluation.use.samples import sources_of

BATCH = 64


def data_of(folder: Path) -> ImageFolder:
    data = ImageFolder(str(folder), image_size=128)
    data.prepare_data()
    return data


def bare(encoder: Encoder, folder: Path) -> float:
    """Seconds of a bare loop."""
    data = data_of(folder)
    source = sources_of(data)["train"]
    began = time.perf_counter()
    draws = torch.arange(len(source)).split(BATCH)
    with torch.no_grad():
        for batch in peek_each(data, source, draws, "cpu", data.clean_views()):
            encoder(batch["views"][0])
    return time.perf_counter() - began


def embedded(encoder: Encoder, folder: Path, out: Path) -> float:
    """Seconds of `embed`."""
    data = data_of(folder)
    sources = sources_of(data)
    began = time.perf_counter()
    embedding = Embedding(encoder, data, sources, Wanted(batch_size=BATCH), out, {})
    embedding.begin()
    embedding.compute(range(len(embedding.parts)), lambda done, total: None)
    embedding.finish()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    encoder = TimmEncoder("resnet18").eval()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images"
        random = np.random.default_rng(0)
        for number in range(args.samples):
            path = folder / str(number % 10) / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=90)
        rates: dict[str, list[float]] = {"bare": [], "embed": []}
        for _ in range(args.rounds):
            rates["bare"].append(args.samples / bare(encoder, folder))
            rates["embed"].append(args.samples / embedded(encoder, folder, Path(root) / "vectors.parquet"))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    ratios = [a / b for a, b in zip(rates["embed"], rates["bare"], strict=True)]
    print(machine())
    print(f"images/s: bare {medians['bare']:.1f}, embed {medians['embed']:.1f}")
    print(f"embed / bare: {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]; the bar is 0.95")


if __name__ == "__main__":
    main()
