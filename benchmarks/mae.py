"""A step of MAE, ViT-Tiny with patches of 4 pixels on 32x32 images, against transformers'
ViTMAEForPreTraining.

    python benchmarks/mae.py            # about 4 minutes on 2 quiet cores

Forward, backward and a step of fused AdamW on one ready batch, 75 % of the patches hidden,
normalised pixels as targets. In the first rows both have the same encoder and the same decoder
(ours: 2 blocks, 128 wide); the program stops unless both have as many weights. In the others each
has its default decoder; transformers' is that of the paper (8 blocks, 512 wide). Both work by turns
in one process; a round is one step that is not timed and `--steps` that are, and the ratio is taken
within each round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import machine
from ssl_lightning.methods.mae import MAE
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from turns import quartiles

from ssl_lightning import View
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.run.settings.precision import best_precision

BAR = 1.0
EQUAL: dict[str, Any] = {
    "decoder_hidden_size": 128,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 512,
}


def ours(batch_size: int) -> tuple[nn.Module, Callable[[], Any]]:
    """The method, and its loss on a batch of its own."""
    torch.manual_seed(0)
    method = MAE(ViTEncoder("vit_tiny_patch16_224", image_size=32, patch_size=4)).train()
    batch: Any = {
        "views": [View(images(batch_size))],
        "index": torch.arange(batch_size),
        "key": torch.arange(batch_size),
    }
    return method, lambda: method.step(batch)["loss"]


def theirs(batch_size: int, decoder: dict[str, Any]) -> tuple[nn.Module, Callable[[], Any]]:
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=32, patch_size=4, num_channels=3, hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
        intermediate_size=768, mask_ratio=0.75, norm_pix_loss=True, **decoder,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).train()
    x = images(batch_size)
    return model, lambda: model(pixel_values=x).loss


def images(number: int) -> torch.Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Contestant:
    """Trains, a few steps at a time."""

    def __init__(self, module: nn.Module, loss: Callable[[], Any], precision: str) -> None:
        self.loss = loss
        self.weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        self.half = precision == "bf16-mixed"

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def turn(self, steps: int) -> float:
        """Seconds a step, after one that is not timed."""
        self.step()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        return (time.perf_counter() - began) / steps


def compare(title: str, decoder: dict[str, Any], bar: float | None, precision: str, args: argparse.Namespace) -> None:
    """A row of the table."""
    pair = [Contestant(*made, precision) for made in (ours(args.batch), theirs(args.batch, decoder))]
    sizes = [sum(weight.numel() for weight in each.weights) for each in pair]
    if decoder and sizes[0] != sizes[1]:
        raise SystemExit(f"{title}: ours has {sizes[0]:,} weights, transformers {sizes[1]:,}.")
    seconds: list[list[float]] = []
    for round_ in range(args.rounds):
        turns = [(each, each.turn(args.steps)) for each in (pair if round_ % 2 == 0 else reversed(pair))]
        seconds.append([next(value for contestant, value in turns if contestant is each) for each in pair])
    ratios = [transformers / own for own, transformers in seconds]
    rates = [quartiles([args.batch / value for value in column], ".1f") for column in zip(*seconds, strict=True)]
    met = "" if bar is None else "met" if statistics.median(ratios) >= bar else "not met"
    print(f"| {title}, {precision} | {bar or ''} | {quartiles(ratios)} | {rates[0]} | {rates[1]} | {met} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="of both")
    parser.add_argument("--steps", type=int, default=4, help="timed steps in a round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(
        f"{machine()}\n\nimages/s, medians over {args.rounds} rounds of {args.steps} steps [quartiles], batch"
        f" {args.batch}\n"
    )
    print(
        "| MAE, ViT-Tiny, patch 4, 32x32 | bar | ours / transformers | ours | transformers | |\n| --- | --- | --- | ---"
        " | --- | --- |"
    )
    for precision in dict.fromkeys(("32-true", best_precision("cpu"))):
        compare("equal encoder and decoder", EQUAL, BAR, precision, args)
        compare("default decoder of each", {}, None, precision, args)


if __name__ == "__main__":
    main()
