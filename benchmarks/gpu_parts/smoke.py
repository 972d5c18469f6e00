"""Each method of the registry on its modality, with the encoder that its data suggests, in bfloat16
and float32: some steps with live probes, and the same run resumed half-way. And once the command
line."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from common import quiet
from pytorch_lightning.callbacks import Checkpoint as LightningCheckpoint
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.datamodules.tones import Generated, Tones

from ssl_lightning import SSLDataModule, SSLMethod
from ssl_lightning.cli.main import main
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import Source
from ssl_lightning.encoders.kinds import needed_encoder
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.arguments import argument_defaults
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

from .clock import ACCELERATOR, FULL, now
from .sheet import Sheet
from .trained import apart, trainer

STEPS, BATCH, WATCHED = (20, 64, 256) if FULL else (4, 8, 32)
"""Steps of a run, samples in a step, and samples that a live probe looks at."""
SMALLER: dict[str, dict[str, Any]] = {} if FULL else {"wav": {"size": "tiny"}}
"""What makes an encoder small enough for a CPU."""
WORDS = ["the", "of", "and", "to", "in", "is", "was", "it", "for", "on", "as", "with", "his", "he", "be", "by", "at"]


class FewTones(Tones):
    """Tones, of which few are generated."""

    def source(self, split: Split) -> Source | None:
        return None if split == "val" else Generated(*((0, 160) if split == "train" else (160, 40)), self.sample_rate)


class SaveAt(LightningCheckpoint):
    """Saves a checkpoint after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, run: Any, *args: Any) -> None:
        if run.global_step == self.step:
            run.save_checkpoint(self.path, weights_only=False)


@cache
def some_texts(folder: str) -> str:
    generator = torch.Generator().manual_seed(0)
    lines = [
        " ".join(WORDS[int(word)] for word in torch.randint(0, len(WORDS), (int(count),), generator=generator))
        for count in torch.randint(5, 30, (400,), generator=generator)
    ]
    path = Path(folder) / "texts.txt"
    path.write_text("\n\n".join(lines))
    return str(path)


def data_for(cls: type[SSLMethod], folder: str) -> tuple[type[SSLDataModule], dict[str, Any]]:
    """The data for the kind of encoder that a method needs."""
    match needed_encoder(cls):
        case "TextEncoder":
            return TextFiles, {"path": some_texts(folder), "row_length": 64, "vocab_size": 300}
        case "WaveEncoder":
            return FewTones, {"features": "wave"}
        case "SequenceEncoder":
            return FewTones, {}
    return Digits, {}


def build(cls: Any, precision: str, folder: str) -> tuple[SSLMethod, SSLDataModule]:
    """A method and its data; on a CPU those of the conformance kit in bfloat16, which take no
    time."""
    if not FULL and precision == "bf16-mixed":
        torch.manual_seed(0)
        return cls(tiny_encoder(cls)), tiny_data(cls, batch_size=BATCH)
    data, settings = data_for(cls, folder)
    encoder = data.suited_encoders({**argument_defaults(data), **settings})[needed_encoder(cls)]
    reader = Registry("ssl_lightning.encoders")[encoder["class_path"]]
    needed = {key: value for key, value in cls.suited_encoder_args.items() if key in argument_defaults(reader)}
    torch.manual_seed(0)
    made = reader(**{**encoder.get("init_args", {}), **needed, **SMALLER.get(encoder["class_path"], {})})
    return cls(made), data(batch_size=BATCH, **settings)


def lengths(cls: type[SSLMethod]) -> tuple[int, int]:
    """The steps of a method's run, and those after which it is resumed."""
    return (1, 1) if cls.solved else (STEPS, STEPS // 2)


def train(cls: Any, precision: str, root: str, saved: Path, resume: bool) -> SSLMethod:
    """One run, which saves itself half-way, or goes on from there."""
    method, data = build(cls, precision, root)
    steps, half = lengths(cls)
    callbacks = [
        OnlineLinearProbe(batch_size=32, queries=WATCHED, every_n_steps=STEPS // 4, eval_every_n_steps=STEPS // 2),
        KNNProbe(bank=WATCHED, queries=WATCHED, every_n_steps=STEPS // 2),
        HeldOut(samples=WATCHED, every_n_steps=STEPS // 2),
        CollapseMonitor(every_n_steps=STEPS // 4),
        Report(False),
        Checkpoint(False),
        *([] if resume else [SaveAt(half, saved)]),
    ]
    run = trainer(root, precision, callbacks, max_steps=STEPS, enable_checkpointing=True)
    with quiet():
        run.fit(method, datamodule=data, ckpt_path=saved if resume else None)
    if run.global_step != steps:
        raise RuntimeError(f"the run ended after {run.global_step} steps, not {steps}.")
    for name, value in method.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise RuntimeError(f"{name} has values that are not finite after {steps} steps.")
    return method.cpu()


def run(sheet: Sheet, names: list[str]) -> None:
    methods = Registry("ssl_lightning.methods")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["SSL_LIGHTNING_CACHE"] = folder
        kinds = set()
        for name in names or methods:
            kind = needed_encoder(methods[name])
            # On a CPU one method of each kind is enough, on its modality.
            for precision in ("bf16-mixed", "32-true") if FULL or kind not in kinds else ("bf16-mixed",):
                kinds.add(kind)
                steps, half = lengths(methods[name])
                title = f"{name}, {precision}: {steps} steps, and resumed after {half}"
                try:
                    began = now()
                    saved = Path(folder) / f"{name}-{precision}.ckpt"
                    straight, resumed = (train(methods[name], precision, folder, saved, each) for each in (False, True))
                    gap = apart(straight.state_dict(), resumed.state_dict())
                    seconds = now() - began
                    sheet.tell(title, "passes", f"weights apart by {gap:.1e}; {seconds:.1f} s", True, difference=gap)
                except Exception as error:
                    sheet.failed(title, error)
        if not names:
            command_line(sheet, folder)


def command_line(sheet: Sheet, folder: str) -> None:
    """The main command, with everything that a run does by itself."""
    command = [
        "fit", "--model", "simclr", "--data", "digits", "--data.batch_size", str(BATCH), "--trainer.max_steps",
        str(STEPS), "--trainer.default_root_dir", folder, "--trainer.accelerator", ACCELERATOR,
        "--report.train_samples", "200", "--report.test_samples", "100", "--report.draws", "1",
    ]  # fmt: skip
    title = "ssl-lightning fit --model simclr --data digits, with its report"
    try:
        began = now()
        with quiet():
            code = main(command)
        sheet.tell(title, "passes", f"code {code}; {now() - began:.1f} s", code == 0)
    except (Exception, SystemExit) as error:
        sheet.failed(title, error)
