"""What `Trainer.fit` costs above a bare PyTorch loop with the same objects.

    python benchmarks/overhead.py  # all cases, about 6 minutes on 2 quiet cores
    python benchmarks/overhead.py conv toy  # some of them
    # ready batches, about 2 minutes each
    python benchmarks/overhead.py --method moco moco_v3 byol swav mae

First `fit` and loop must end with bitwise equal weights. Then they alternate step by step: the
loader that `fit` reads takes a step of the bare loop before it hands out each batch, so that both
meet the same machine. A checkpoint is timed by itself and charged at its share of an epoch of
60,000 samples. The tables have medians over the rounds, with the least and the most. kNN and the
closing report are off.

resnet18 and conv: in each round, the linear probe takes a step and looks at its validation samples
once, both scaled down in size so that they keep their share of the training (1 % each); once each,
too, come a look at the collapse monitor and a row of metrics. --method: the same with ResNet-18,
MAE with a ViT-Tiny of patches of 4 pixels; the bare loop updates teachers, queues and prototypes by
hand. toy: everything at its default cadence, which is a row and a look every 10 steps, and a step
of the probe every 17; the bare loop takes the probe's step too.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytorch_lightning as pl
import torch
from common import NoiseImages, machine, quiet
from torch import nn

from ssl_lightning import Encoder, SSLMethod, Trainer
from ssl_lightning.data.order import Order
from ssl_lightning.data.peek import embed
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.evaluation.probes.base import COST_OF_STEP, Labelled
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import Head, OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.metrics import Metrics
from ssl_lightning.run.meter import Meter
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.run.settings.precision import best_precision
from ssl_lightning.types import Batch, View

OPTIONS = {"swav": {"freeze_epochs": 0.0}}
"""Prototypes that move from the first step on."""
SAMPLES = 60_000
WARM_UP = 2


class ToyEncoder(Encoder):
    """One small matrix, so that what remains is the host's time."""

    dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, self.dim)

    def forward(self, view: View) -> torch.Tensor:
        return self.linear(view.x.flatten(1))


PRECISION = best_precision("cpu")


def autocast() -> torch.autocast:
    """The context of Lightning's `bf16-mixed`, which keeps no weights that were cast: with a cache
    the gradients differ in the last bit."""
    return torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bf16-mixed", cache_enabled=False)


@dataclass(frozen=True)
class Case:
    """What is trained: an encoder, the side of its images, samples in a batch, steps in a round,
    what comes every so many, and how."""

    title: str
    build: Callable[[], Encoder]
    side: int
    batch_size: int
    round: int
    log: int
    probe: int
    look: int
    method: str = "simclr"

    @property
    def steps_an_epoch(self) -> int:
        return SAMPLES // self.batch_size

    def build_method(self) -> SSLMethod:
        torch.manual_seed(0)
        cls: Any = Registry("ssl_lightning.methods")[self.method]
        return cls(self.build(), **OPTIONS.get(self.method, {}))

    def data(self, ready: bool) -> NoiseImages:
        return NoiseImages(train_samples=SAMPLES, ready=ready, image_size=self.side, batch_size=self.batch_size)

    @property
    def cost(self) -> float:
        """Forward passes that a step costs for each sample, as the probes reckon."""
        return COST_OF_STEP * self.build_method().views_a_step

    def linear_probe(self, enabled: bool = True) -> OnlineLinearProbe:
        """A probe with steps and looks of 1 % of the training each; a look that comes later than a
        round is never timed."""
        size = int(self.probe * self.cost * self.batch_size / 100)
        return OnlineLinearProbe(
            enabled, batch_size=size, queries=size, every_n_steps=self.probe, eval_every_n_steps=self.look
        )


class BareLoop:
    """A training step as one would write it by hand, with the method's own `step`, optimizer
    settings, teachers and `after_update`."""

    def __init__(
        self, case: Case, method: SSLMethod, batches: Iterator[Batch], steps: int, probe: BareProbe | None = None
    ) -> None:
        self.method, self.batches, self.probe, self.done = method.train(), batches, probe, 0
        self.teachers, self.steps = method.teachers, steps
        self.optimizer, self.schedule = method.optimizer_spec.build(method, case.batch_size, steps, case.steps_an_epoch)

    def step(self) -> None:
        batch = next(self.batches)
        with autocast():
            out = self.method.step(batch)
        self.optimizer.zero_grad()
        out["loss"].backward()
        self.optimizer.step()
        self.schedule.step()
        for teacher in self.teachers:
            teacher.update(self.done / self.steps)
        with torch.no_grad():
            self.method.after_update([out.get("state")])
        self.done += 1
        if self.probe is not None and self.done % self.probe.every == 0:
            self.probe.step(self.method)


class BareProbe:
    """The linear probe's own step, at its cadence, on the same samples."""

    def __init__(self, case: Case, data: NoiseImages, dim: int) -> None:
        self.probe, self.every = case.linear_probe(), case.probe
        self.labelled = Labelled(data, None, self.probe.queries)
        self.order = Order(len(self.labelled.train), 1, self.probe.order_version)
        self.head = Head(dim, self.labelled.num_classes, self.probe.lr, self.probe.weight_decay, torch.device("cpu"))

    def step(self, method: SSLMethod) -> None:
        index, labelled = self.probe.draw(self.order), self.labelled
        features = embed(method, labelled.data, labelled.train, index, context=autocast)
        self.head.learn(features, labelled.train_labels[index])
        self.probe.steps += 1


class TimedCheckpoint(Checkpoint):
    """Writes each checkpoint three times and notes the seconds."""

    seconds: list[float]

    def save(self, trainer: Any, keep: bool = False) -> None:
        for _ in range(3):
            start = time.perf_counter()
            super().save(trainer, keep)
            self.seconds = [*getattr(self, "seconds", []), time.perf_counter() - start]


@dataclass
class Alternation:
    """Steps of `fit` and of the bare loop by turns: when the loop's step began and ended, on the
    wall clock and in CPU time."""

    loop: BareLoop
    began: list[tuple[float, float]] = field(default_factory=list)
    ended: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self) -> None:
        self.began.append((time.perf_counter(), time.process_time()))
        self.loop.step()
        self.ended.append((time.perf_counter(), time.process_time()))

    def rounds(self, size: int, clock: int) -> list[tuple[float, float]]:
        """Seconds a step of (the loop, `fit`), for each round after the warm-up."""
        bare = [end[clock] - begin[clock] for begin, end in zip(self.began, self.ended, strict=True)][:-1]
        fit = [begin[clock] - end[clock] for begin, end in zip(self.began[1:], self.ended[:-1], strict=True)]
        starts = range(WARM_UP, len(fit) - size + 1, size)
        return [(sum(bare[start : start + size]) / size, sum(fit[start : start + size]) / size) for start in starts]


def make_trainer(case: Case, root: str, steps: int, off: str = "", checkpoint: Checkpoint | None = None) -> pl.Trainer:
    """A trainer with the standing callbacks, each at the cadence of the case; without the one named
    `off`, or without any."""
    if off == "framework":
        return pl.Trainer(
            accelerator="cpu", max_steps=steps, precision=PRECISION, default_root_dir=root,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
    callbacks = [
        case.linear_probe(off not in ("linear probe", "all")),
        KNNProbe(enabled=False),
        CollapseMonitor(enabled=off not in ("collapse monitor", "all"), every_n_steps=case.log),
        Health(enabled=off not in ("health", "all")),
        Meter(enabled=off not in ("meter", "all")),
        Report(enabled=False),
        checkpoint or Checkpoint(enabled=off not in ("checkpoint", "all")),
    ]
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, precision=PRECISION, default_root_dir=root, log_every_n_steps=case.log,
        callbacks=callbacks, enable_progress_bar=off not in ("progress", "all"),
    )  # fmt: skip
    if off in ("metrics", "all"):  # the one without a switch
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, Metrics)]
    return trainer


def batches_of(data: NoiseImages, method: SSLMethod) -> Iterator[Batch]:
    """The batches that `fit` would see, in its order."""
    data.serve(method)
    return (data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())


def check_equal(case: Case, ready: bool, steps: int = 3) -> None:
    """Stops the program unless `fit` and the bare loop end with bitwise equal weights."""
    method = case.build_method()
    twin = copy.deepcopy(method)
    bare = BareLoop(case, twin, batches_of(case.data(ready), twin), steps)
    for _ in range(steps):
        bare.step()
    with tempfile.TemporaryDirectory() as root, quiet():
        make_trainer(case, root, steps).fit(method, datamodule=case.data(ready))
    for (name, ours), theirs in zip(method.state_dict().items(), twin.state_dict().values(), strict=True):
        if not torch.equal(ours, theirs):
            raise SystemExit(f"{case.title}: fit and the bare loop do not agree after {steps} steps: {name} differs.")


def alternate(case: Case, ready: bool, rounds: int, off: str = "", probe: bool = False) -> tuple[Alternation, float]:
    """Runs `fit` and a bare loop with one ready batch by turns; also the seconds a step that
    checkpoints cost."""
    method, data = case.build_method(), case.data(ready)
    steps = WARM_UP + rounds * case.round + 1  # nothing follows the last, so it is not timed
    twin, twin_data = copy.deepcopy(method), case.data(ready=True)
    batches = batches_of(twin_data, twin)
    bare_probe = BareProbe(case, twin_data, twin.encoder.dim) if probe else None
    data.before_batch = turns = Alternation(BareLoop(case, twin, batches, steps, bare_probe))
    checkpoint = None if off in ("checkpoint", "all", "framework") else TimedCheckpoint()
    with tempfile.TemporaryDirectory() as root, quiet():
        make_trainer(case, root, steps, off, checkpoint).fit(method, datamodule=data)
    return turns, statistics.median(checkpoint.seconds) / case.steps_an_epoch if checkpoint else 0.0


def spread(values: list[float], form: str = ".3f") -> str:
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def rates(case: Case, bars: dict[bool, float], rounds: int) -> None:
    """The rate of `fit` as a share of the bare loop's with one ready batch, with ready batches and
    with the whole data path."""
    for ready, bar in bars.items():
        check_equal(case, ready)
        turns, checkpoint = alternate(case, ready, rounds)
        wall, cpu = ([(bare, fit + checkpoint) for bare, fit in turns.rounds(case.round, clock)] for clock in (0, 1))
        print(
            f"| {case.title}, {'ready batches' if ready else 'whole data path'} | {bar:.2f} |"
            f" {spread([bare / fit for bare, fit in wall])} | {spread([bare / fit for bare, fit in cpu])} |"
            f" {1000 * statistics.median(bare for bare, _ in wall):.1f} |"
            f" {1000 * statistics.median(fit for _, fit in wall):.1f} | {1000 * checkpoint:.2f} |",
            flush=True,
        )


TOY = (
    "",
    "linear probe",
    "collapse monitor",
    "health",
    "meter",
    "metrics",
    "checkpoint",
    "progress",
    "all",
    "framework",
)


def toy(case: Case, rounds: int) -> None:
    """Host time a step above the bare loop, and what each callback has in it."""
    check_equal(case, ready=True)
    wall: dict[str, list[float]] = {off: [] for off in TOY}
    cpu: dict[str, list[float]] = {off: [] for off in TOY}
    step: list[float] = []
    for _ in range(rounds):  # A, B, ..., A, B, ...
        for off in TOY:
            turns, checkpoint = alternate(
                case, True, max(1, rounds // 3), off, probe=off not in ("linear probe", "all", "framework")
            )
            wall[off] += [fit - bare + checkpoint for bare, fit in turns.rounds(case.round, 0)]
            cpu[off] += [fit - bare + checkpoint for bare, fit in turns.rounds(case.round, 1)]
            step += [bare for bare, _ in turns.rounds(case.round, 0)]
    print(f"\nToy model, one thread: the bare loop takes {1000 * statistics.median(step):.2f} ms a step")
    print(f"{len(wall[''])} rounds of {case.round} steps; in brackets the quartiles\n")
    print(
        "| standing callbacks | ms a step above the bare loop (bar 0.5) | CPU ms | against all on, CPU ms |\n| --- |"
        " --- | --- | --- |"
    )
    names = {"": "all on", "all": "all off", "framework": "plain pytorch_lightning.Trainer, all off"}
    for off in TOY:
        quartiles = statistics.quantiles(wall[off], n=4)
        difference = statistics.median(cpu[off]) - statistics.median(cpu[""])
        print(
            f"| {names.get(off, f'without {off}')} | {1000 * quartiles[1]:.3f} [{1000 * quartiles[0]:.3f},"
            f" {1000 * quartiles[2]:.3f}] | {1000 * statistics.median(cpu[off]):.3f} | {1000 * difference:+.3f} |"
        )


def tiny_vit() -> ViTEncoder:
    return ViTEncoder("vit_tiny_patch16_224", channels=1, image_size=32, patch_size=4)


CASES = {
    "resnet18": Case(
        "ResNet-18",
        lambda: TimmEncoder("resnet18", small_images=True, channels=1),
        32,
        128,
        round=5,
        log=5,
        probe=5,
        look=5,
    ),
    "conv": Case("ConvEncoder", lambda: ConvEncoder(channels=1), 32, 128, round=10, log=10, probe=10, look=10),
    "vit": Case("ViT-Tiny", tiny_vit, 32, 128, round=5, log=5, probe=5, look=5),
    "toy": Case("Toy model", ToyEncoder, 8, 16, round=170, log=10, probe=17, look=651),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help="resnet18, conv, toy; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=6, help="timed rounds after the warm-up")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes")
    parser.add_argument(
        "--method", nargs="+", default=[], help="time these with ready batches, in place of SimCLR's cases"
    )
    args = parser.parse_args()
    cases = args.cases or ([] if args.method else ["resnet18", "conv", "toy"])
    if unknown := set(cases) - {"resnet18", "conv", "toy"}:
        parser.error(f"unknown case {', '.join(unknown)}; choose from resnet18, conv, toy.")
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{machine()}, precision {PRECISION}\n")
    if args.method or {"resnet18", "conv"} & set(cases):
        print(
            "| batch 128, 32x32 | bar | rate of fit / bare loop | in CPU time | bare ms | fit ms | of it checkpoints |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")
    for method in args.method:
        case = replace(CASES["vit" if method == "mae" else "resnet18"], method=method)
        rates(replace(case, title=f"{method}, {case.title}"), {True: 0.97}, args.rounds)
    if "resnet18" in cases:
        rates(CASES["resnet18"], {True: 0.97, False: 0.90}, args.rounds)
    if "conv" in cases:
        rates(CASES["conv"], {False: 0.80}, args.rounds)
    if "toy" in cases:
        torch.set_num_threads(1)
        toy(CASES["toy"], args.rounds)


if __name__ == "__main__":
    main()
