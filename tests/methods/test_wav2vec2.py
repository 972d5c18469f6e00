"""wav2vec 2.0's loss and gradients are transformers', its runs go on exactly, and two processes
make one.

Run as a script this file is one of two processes: `test_wav2vec2.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from resuming import Run, assert_same, finished, kill
from ssl_lightning.methods.wav2vec2 import Wav2Vec2
from torch import Tensor
from torch.testing import assert_close
from wav2vec2_twins import pretraining_twin, recordings

from ssl_lightning import Batch, View
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.distributed import rank
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.nn.masks.spans import Spans, others
from ssl_lightning.nn.quantizer import gumbel
from ssl_lightning.nn.spread import spread
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.testing import TinyEncoder, TinyWaves
from ssl_lightning.testing.tiny import WAVE_STEM

SMALL: dict[str, Any] = {"mask_length": 3, "negatives": 7, "codebooks": 2, "entries": 5, "target_dim": 8}
LENGTHS = [700, 431, 75, 666, 260]
"""Samples of recordings in rows of 700; the third has one token, and nothing to be told from."""


def exact(stem: Any = "layer", norm: Any = "pre", **init_args: Any) -> Wav2Vec2:
    """In float64, without dropout, and away from where it starts."""
    torch.manual_seed(0)
    encoder = WaveTransformer(**WAVE_STEM, maps=8, dim=16, depth=2, heads=2, dropout=0.0, stem=stem, norm=norm)
    method = Wav2Vec2(encoder, **{**SMALL, **init_args}).double().train()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, dtype=parameter.dtype))
    return method


def batch_of(lengths: list[int], row: int = 700, loud: float = 30.0) -> Batch:
    x, real = recordings(lengths, row, loud)
    index = torch.arange(len(lengths))
    segment = None if min(lengths) == row else real * (index + 1)[:, None]
    return {"views": [View(x, segment)], "index": index, "key": sample_keys(0, 0, index)}


def test_what_is_shown_as_masked_is_what_the_step_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = exact(), batch_of(LENGTHS)
    hidden: list[Tensor] = []
    hide = Spans.hide
    monkeypatch.setattr(Spans, "hide", lambda spans, x, token: (hidden.append(spans.hidden), hide(spans, x, token))[1])
    method.step(batch)
    shown, (view,) = method.corrupted(batch)["masked"], batch["views"]
    assert shown.shape == view.x.shape and torch.equal(shown[~shown.isnan()], view.x[~shown.isnan()])
    tokens = method.encoder.content(View(shown)).isnan()
    assert torch.equal(tokens.all(2), hidden[0]) and torch.equal(tokens.any(2), hidden[0])


def some(batch: Batch, rows: list[int]) -> Batch:
    """Some of the recordings, in rows as long as these need."""
    (view,) = batch["views"]
    assert view.segment is not None
    most = int((view.segment[rows] > 0).sum(1).max())
    real = view.segment[rows, :most] > 0
    sample = torch.arange(1, len(rows) + 1)[:, None]
    return {
        "views": [View(view.x[rows, :most], real * sample)],
        "index": batch["index"][rows],
        "key": batch["key"][rows],
    }


# Against transformers.


class Theirs:
    """transformers' loss with the masks, negatives and noise that ours draws, and the penalty on
    features that it lacks."""

    def __init__(self, method: Wav2Vec2, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        (view,), key = batch["views"], batch["key"]
        made = method.compare(view, key, noise=True)
        self.spans, rows, tokens = made.spans, len(key), made.features.x.shape[1]
        own = torch.arange(rows)[:, None, None]
        chosen = (
            self.spans.positions[own, others(key, self.spans.real, method.negatives)] + tokens * own
        )  # [S, M, K] among all places
        negatives = torch.zeros(rows, tokens, method.negatives, dtype=torch.int64)
        negatives[own[:, 0], self.spans.positions] = chosen
        scores = method.quantizer.score.out_features
        noise = torch.zeros(rows, tokens, scores)
        noise[own[:, 0], self.spans.positions] = gumbel(self.spans.keys(key).flatten(), scores).view(rows, -1, scores)
        monkeypatch.setattr(Tensor, "exponential_", lambda self, *args: self.copy_((-noise).exp().view_as(self)))
        self.model, self.names = pretraining_twin(method)
        self.model.quantizer.temperature = method.quantizer.temperature_at(method.progress)
        mask = None if view.segment is None else (view.segment > 0).long()
        out = self.model(
            view.x, attention_mask=mask, mask_time_indices=self.spans.hidden, sampled_negative_indices=negatives
        )
        found = self.model.wav2vec2.feature_extractor(view.x).mT  # [S, N, P]
        count = [int(tokens if view.segment is None else method.encoder.tokens(n)) for n in LENGTHS[:rows]]  # type: ignore[attr-defined]
        hidden = self.spans.hidden.sum(1)
        self.penalty = (
            torch.stack([found[s, : count[s]].square().mean() * hidden[s] for s in range(rows)]).sum() / hidden.sum()
        )
        self.contrastive, self.unused = out.contrastive_loss / hidden.sum(), out.diversity_loss / hidden.sum()
        self.loss = out.loss / hidden.sum() + method.feature_penalty * self.penalty


@pytest.mark.parametrize(("stem", "norm"), [("layer", "pre"), ("group", "post")])
def test_loss_and_every_gradient_are_transformers(monkeypatch: pytest.MonkeyPatch, stem: str, norm: str) -> None:
    """With recordings of unequal length where transformers knows them; those of the stem a tenth,
    penalty included."""
    pytest.importorskip("transformers")
    method, batch = exact(stem, norm), batch_of(LENGTHS if stem == "layer" else [700] * 5)
    step, theirs = method.step(batch), Theirs(method, batch, monkeypatch)
    assert_close(step["loss"], theirs.loss, rtol=1e-7, atol=0)  # parts of theirs are in float32
    assert_close(step["logs"]["contrastive"], theirs.contrastive.detach(), rtol=1e-6, atol=0, check_dtype=False)
    assert_close(step["logs"]["feature_penalty"], theirs.penalty.detach(), rtol=1e-9, atol=0)
    assert step["weight"] == theirs.spans.hidden.sum() > 20
    parts = [theirs.contrastive, 0.1 * theirs.unused, 10 * theirs.penalty]
    assert min(parts) > 0.01, "each counts"
    step["loss"].backward()
    theirs.loss.backward()
    found = dict(theirs.model.named_parameters())
    for name, parameter in method.named_parameters():
        other = torch.cat([found[each].grad for each in theirs.names[name]]).view_as(parameter)
        scale = 0.1 if name.startswith("encoder.convolutions") else 1.0
        assert parameter.grad is not None and other.abs().max() > 1e-6, f"{name} learns"
        assert_close(
            parameter.grad, scale * other, rtol=1e-5, atol=1e-6 * float(other.abs().max()), msg=f"{name}: {{}}".format
        )


def test_without_noise_it_is_transformers_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores on samples that are held out: contrastive loss and accuracy over all hidden tokens
    of unequal batches."""
    pytest.importorskip("transformers")
    method, batch = exact(), batch_of(LENGTHS)
    method.quantizer.forward = lambda x, progress=0.0, key=None: type(method.quantizer).forward(method.quantizer, x)  # type: ignore[method-assign]
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(
            "transformers.Wav2Vec2ForPreTraining.train", lambda self, mode=True: torch.nn.Module.train(self, False)
        )
        theirs = Theirs(method, batch, patch)
    del method.quantizer.forward
    with torch.no_grad():
        scores = method.scores(iter([some(batch, [0, 1]), some(batch, [2, 3, 4])]))
    assert not theirs.model.training
    assert_close(scores["contrastive"], theirs.contrastive, rtol=1e-6, atol=0, check_dtype=False)
    assert 0 < scores["accuracy"] < 1


# What it hides, compares and logs.


def test_padding_and_the_batch_change_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording's part of the loss is that which it has alone, whatever lies behind it; an odd
    batch is like any other."""
    method, batch = exact(), batch_of(LENGTHS)
    whole = method.compare(batch["views"][0], batch["key"], noise=True)
    alone = [
        method.compare(each["views"][0], each["key"], noise=True) for each in (some(batch, [row]) for row in range(5))
    ]
    assert_close(sum(each.nll for each in alone), whole.nll, rtol=1e-10, atol=0)
    assert sum(int(each.correct) for each in alone) == whole.correct
    assert_close(torch.cat([each.embeddings for each in alone]), whole.embeddings)
    straight = method.step(batch)
    for other in (batch_of(LENGTHS, loud=-3.0), batch_of(LENGTHS, row=931)):
        (view,) = batch["views"]
        other["views"][0].x[:, :700][view.segment > 0] = view.x[view.segment > 0]  # type: ignore[operator]
        step = method.step(other)
        assert_close(step["loss"], straight["loss"], rtol=1e-10, atol=0)
        for name, value in straight["logs"].items():
            assert_close(
                torch.as_tensor(step["logs"][name]),
                torch.as_tensor(value),
                rtol=1e-5,
                atol=1e-7,
                msg=f"{name}: {{}}".format,
            )


def test_logs_are_what_they_say() -> None:
    method, batch = exact(entries=3), batch_of(LENGTHS)
    logs, made = method.step(batch)["logs"], method.compare(batch["views"][0], batch["key"], noise=True)
    real = made.spans.real
    tokens = sum(method.encoder.tokens(n) for n in LENGTHS)  # type: ignore[attr-defined]
    assert float(logs["masked"]) == pytest.approx(int(made.spans.hidden.sum()) / tokens)
    codes = made.codes.code[real]
    entropy = torch.stack(
        [torch.special.entr(codes[:, group].bincount(minlength=3) / len(codes)).sum() for group in range(2)]
    )
    assert_close(logs["code_perplexity"], entropy.exp().sum(), check_dtype=False)
    assert float(logs["codes_used"]) == sum(len(codes[:, group].unique()) for group in range(2)) / 6
    assert_close(logs["target_deviation"], spread(made.targets[real].detach()), check_dtype=False)
    assert logs["gumbel_temperature"] == 2.0


def test_a_batch_of_one_token_each_has_no_contrastive_loss() -> None:
    method = exact()
    step = method.step(batch_of([75, 80, 60], row=80))
    assert step["logs"]["contrastive"] == 0 and step["logs"]["accuracy"] == 0 and step["weight"] == 3
    step["loss"].backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in method.parameters())


# Runs.


class DoubleWaves(TinyWaves):
    """TinyWaves in float64."""

    def make_batch(self, batch: Any) -> Batch:
        made = super().make_batch(batch)
        views = [view.each(lambda part: part.double() if part.is_floating_point() else part) for view in made["views"]]
        return {**made, "views": views}


class Seen(pl.Callback):
    """Weighted loss, weight and temperature of every batch, and the gradient of every step."""

    def __init__(self) -> None:
        self.loss: list[Tensor] = []
        self.weight: list[Tensor] = []
        self.gradient: list[Tensor] = []
        self.temperatures: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradient.append(torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters()]))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        loss, weight = outputs["losses"]["loss"]
        self.loss.append(loss * weight)
        self.weight.append(weight)
        self.temperatures.append(outputs["logs"]["gumbel_temperature"])


def trained(
    steps: int = 4, batch_size: int = 16, accumulate: int = 1, settings: dict[str, Any] | None = None, **init_args: Any
) -> dict[str, Any]:
    """A run by Lightning's bare Trainer: loss and gradient of every optimizer step, and the
    temperatures."""
    seen = Seen()
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=-1,
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        callbacks=[seen],
        **quiet,
        **(settings or {}),
    )
    trainer.strategy.checkpoint_io = AtomicIO()
    trainer.fit(exact(**{"lr": 1e-2, **init_args}).float(), datamodule=DoubleWaves(samples=64, batch_size=batch_size))
    loss, weight = (torch.stack(each).view(steps, -1).double() for each in (seen.loss, seen.weight))
    return {
        "loss": loss.sum(1) / weight.sum(1),
        "weight": weight.sum(1),
        "gradient": torch.stack(seen.gradient),
        "temperatures": seen.temperatures,
    }


def process(folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    found = trained(settings={"devices": 2, "strategy": "ddp"})
    torch.save(found, folder / f"{rank()}.pt")


def test_two_processes_with_unequal_recordings_train_like_one(run: Any, tmp_path: Path) -> None:
    """Loss and gradient of every step: codes are counted over both, and each counts by its hidden
    tokens."""
    ended = run(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    two = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2)]
    one = trained()
    assert (two[0]["weight"] != two[1]["weight"]).all()
    loss = sum(each["loss"] * each["weight"] for each in two) / sum(each["weight"] for each in two)
    assert_close(loss, one["loss"], rtol=1e-6, atol=0)
    for each in two:
        assert_close(each["gradient"], one["gradient"], rtol=1e-4, atol=1e-6 * float(one["gradient"].abs().max()))
    assert one["temperatures"] == pytest.approx([2 * 0.25 ** (min(1.0, step / 4 / 0.7)) for step in range(4)])


def test_accumulated_batches_are_one_large_batch_where_codes_are_free() -> None:
    """And are refused elsewhere, with the reason."""
    one, several = trained(diversity=0.0), trained(batch_size=8, accumulate=2, diversity=0.0)
    assert_close(several["loss"], one["loss"], rtol=1e-6, atol=0)
    assert_close(several["gradient"], one["gradient"], rtol=1e-4, atol=1e-6 * float(one["gradient"].abs().max()))
    with pytest.raises(MisconfigurationException, match="a batch is to use all codes"):
        trained(batch_size=8, accumulate=2)


WAV_RUN: dict[str, Any] = {
    "method": "wav2vec2",
    "init_args": {**SMALL, "lr": 3e-3},
    "samples": 70,
    "trainer": {"max_epochs": 2},
}
"""Two epochs of 4 steps of 16 recordings; the last 6 of a pass come with the next."""


def killed_like_straight(run: Run, root: Path, place: str, number: int, **spec: Any) -> dict[str, Any]:
    straight = finished(run(root / "straight", **spec))
    kill(run, root / "killed", place, number, save_at=[3, 5], **spec)
    assert_same(finished(run(root / "killed", ckpt_path="auto", **spec)), straight)
    return straight


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(run: Run, tmp_path: Path) -> None:
    """With dropout, its temperature, and its scores on samples that are held out."""
    straight = killed_like_straight(run, tmp_path, "backward", 7, **WAV_RUN)
    lines = [line.split(",") for line in (Path(straight["folder"]) / "metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    temperatures = {
        int(row["step"]): float(row["train/gumbel_temperature"]) for row in rows if row.get("train/gumbel_temperature")
    }
    assert temperatures and len(set(temperatures.values())) == len(temperatures)
    assert [row["step"] for row in rows if row.get("held_out/contrastive")] == ["3", "6", "8"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"max_epochs": 2, "precision": "bf16-mixed"}},
        {
            "samples": 83,
            "init_args": {**SMALL, "diversity": 0.0},
            "trainer": {"max_epochs": 4, "accumulate_grad_batches": 2},
        },
        {"samples": 90, "workers": 2, "augment_on": "worker"},
    ],
    ids=["bf16", "accumulated", "workers"],
)
@pytest.mark.parametrize("place", ["start", "end"])
def test_so_it_does_with(run: Run, tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    killed_like_straight(run, tmp_path, place, 6, **{**WAV_RUN, **changes})


# Mistakes.


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("mask_ratio", 1.0, "above 0 and below 1"),
        ("mask_length", 0, "above 0"),
        ("negatives", 0, "above 0"),
        ("temperature", 0.0, "above 0"),
        ("diversity", -1.0, "at least 0"),
        ("stem_gradient", -0.1, "at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(argument: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"Wav2Vec2\({argument}={value}\) must be {rule}"):
        exact(**{argument: value})


def test_an_encoder_of_images_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"Wav2Vec2 needs an ssl_lightning\.WaveEncoder, such as WaveTransformer, got a TinyEncoder"
    ):
        Wav2Vec2(TinyEncoder())  # type: ignore[arg-type]


if __name__ == "__main__":
    process(Path(sys.argv[1]))
