"""SimCLR, ResNet-18 at 32x32, batch 512, with the whole data path on the device: `fit`'s rate from
the order of samples to the optimizer's step."""

from __future__ import annotations

import copy
import statistics
import tempfile
from typing import Any

import pytorch_lightning as pl
import torch
from common import quiet

from ssl_lightning import ConvEncoder, TimmEncoder
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.registry import Registry

from .clock import DEVICE, FULL, bar, flops, memory, now, spread, use
from .made import Textures, images
from .sheet import Sheet
from .trained import Loop, trainer, without_probes

BAR = 20_000
SAMPLES, COUNT, WARM_UP, ROUNDS, STEPS = (512, 50_000, 40, 4, 40) if FULL else (16, 64, 1, 2, 1)


class Rounds(pl.Callback):
    """Notes the seconds of each block of steps after the warm-up."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, list[float]()

    def on_train_batch_end(self, run: pl.Trainer, *args: Any) -> None:
        done = run.global_step - WARM_UP
        if done >= 0 and done % STEPS == 0:
            time = now()
            if done:
                self.seconds.append((time - self.began) / STEPS)
            self.began = time


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "without probes": ("bf16-mixed", {}),
    "without probes, cuDNN's search (--trainer.benchmark true)": ("bf16-mixed", {"benchmark": True}),
    "all standing callbacks": ("bf16-mixed", {"probes": True}),
    "without probes, fp32": ("32-true", {}),
}


def run(sheet: Sheet, names: list[str]) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder("resnet18", small_images=True) if FULL else ConvEncoder(width=8, depth=2)
    method = Registry("ssl_lightning.methods")["simclr"](encoder)
    data = Textures(count=COUNT, batch_size=SAMPLES, cache="device")
    operations = counted(method)
    for number, (title, (precision, settings)) in enumerate(CASES.items()):
        memory()
        seconds = rate(copy.deepcopy(method), data, precision, **settings)
        middle = statistics.median(seconds)
        share, work = use(operations, middle)
        rates = [SAMPLES / each for each in seconds]
        sheet.tell(
            f"simclr, {'ResNet-18' if FULL else 'tiny'} at 32x32, batch {SAMPLES}, {precision}, {title}: images/s",
            "" if number else f">= {BAR:,}",
            f"{spread(rates, ',.0f')}; {1000 * middle:.2f} ms a step; {work}; {memory():.1f} GiB",
            None if number else bar(SAMPLES / middle >= BAR),
            rates=rates,
            flops=operations,
            mfu=share if precision == "bf16-mixed" else None,
        )


def counted(method: Any) -> int:
    return flops(Loop(method.to(DEVICE), images(method, SAMPLES, 32), "bf16-mixed", 1).without_update)


def rate(method: Any, data: Textures, precision: str, probes: bool = False, **settings: Any) -> list[float]:
    """Seconds a step of `fit`, in rounds."""
    rounds = Rounds()
    callbacks = [Report(False)] if probes else without_probes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, quiet():
        trainer(root, precision, [*callbacks, rounds], max_steps=WARM_UP + ROUNDS * STEPS, **settings).fit(
            method, datamodule=data
        )
    return rounds.seconds
