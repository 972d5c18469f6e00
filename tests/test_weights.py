"""Batches that are accumulated, and processes, count by the `weight` of their step: together they
are one large batch.

Run as a script this file is one of two processes: `test_weights.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.bert import BERT
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, Step, TextTransformer
from ssl_lightning.data.loaders import Stream
from ssl_lightning.distributed import rank
from ssl_lightning.run.folder.metrics import Metrics
from ssl_lightning.testing import TinyText
from ssl_lightning.testing.tiny import ROW_LENGTH, VOCAB_SIZE

STEPS, BATCH = 4, 16


class Unweighted(BERT):
    """The mistake: every batch counts alike, however many tokens it predicts."""

    def step(self, batch: Batch) -> Step:
        step = super().step(batch)
        del step["weight"]
        return step


class Sometimes(BERT):
    """Batches of 8 weigh 0, 1, 2 or 3, by chance."""

    def step(self, batch: Batch) -> Step:
        return {**super().step(batch), "weight": (batch["key"][0] & 3).float()}


def method_of(cls: type[BERT] = BERT, **init_args: Any) -> BERT:
    """Equal in every run; it asks for a third of the tokens, so that batches have rather different
    numbers of them."""
    torch.manual_seed(0)
    encoder = TextTransformer(vocab_size=VOCAB_SIZE, dim=8, depth=1, heads=2, max_length=ROW_LENGTH, dropout=0.0)
    return cls(encoder, **{"mask_ratio": 0.3, "warmup_epochs": 0, "lr": 0.03, **init_args})


class Remember(pl.Callback):
    """The gradient of each optimizer step, before it is clipped."""

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters()]))


def trained(
    method: BERT, batch_size: int, accumulate: int = 1, samples: int = BATCH * STEPS, epochs: int = 1, **settings: Any
) -> Any:
    """Trains in float64: the gradient of each step, the weights at the end, the mean of the losses
    as it is logged."""
    remember, metrics = Remember(), Metrics()
    trainer = pl.Trainer(
        accelerator="cpu", precision="64-true", max_epochs=epochs, accumulate_grad_batches=accumulate, logger=False,
        callbacks=[remember, metrics],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=10_000,
        **settings,
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyText(samples=samples, batch_size=batch_size))
    return {
        "gradient": torch.stack(remember.gradients),
        "weights": torch.cat([parameter.detach().flatten() for parameter in method.parameters()]),
        "loss": torch.tensor(metrics.table.rows[-1]["train/loss"]),
    }


def written_down(
    method: BERT, groups: list[list[int]], batch_size: int, samples: int, clip: float | None = None
) -> Any:
    """The same training by hand: each group of batches is one loss, sum of weight times loss over
    the sum of weights."""
    data, gradients, losses = TinyText(samples=samples, batch_size=batch_size), [], []
    data.serve(method.double().train())
    loader = data.train_dataloader()
    assert isinstance(loader, Stream)
    stream = iter(loader)
    optimizer, schedule = method.optimizer_spec.build(method, batch_size, len(groups), len(groups))
    for group in groups:
        steps = [method.step(next(stream)) for _ in group]
        total = torch.stack([step["weight"].double() for step in steps]).sum()
        loss = torch.stack([step["loss"] * step["weight"].double() for step in steps]).sum() / total.clamp(min=1e-12)
        optimizer.zero_grad()
        loss.backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in method.parameters() if parameter.grad is not None])
        )
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(method.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    weights = torch.cat([parameter.detach().flatten() for parameter in method.parameters()])
    return {"gradient": torch.stack(gradients), "weights": weights, "loss": torch.stack(losses).mean()}


def same(one: Any, other: Any) -> None:
    for name in ("gradient", "weights"):
        scale = float(other[name].abs().max())
        assert_close(
            one[name], other[name], rtol=1e-6, atol=1e-6 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def one() -> Any:
    """One process, whole batches."""
    return trained(method_of(), BATCH)


@pytest.fixture(scope="module")
def one_with_order() -> Any:
    """Likewise, with a loss that is a mean over samples beside the one over tokens."""
    return trained(method_of(sentence_order=True), BATCH)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_one_large_batch(one: Any, accumulate: int) -> None:
    """Though they predict different numbers of tokens; gradients of every step, and what the
    weights come to."""
    same(trained(method_of(), BATCH // accumulate, accumulate), one)


def test_without_their_weights_they_would_not_be(one: Any) -> None:
    wrong = trained(method_of(Unweighted), BATCH // 4, 4)
    assert (wrong["gradient"][0] - one["gradient"][0]).norm() > 0.02 * one["gradient"][0].norm()
    same(trained(method_of(Unweighted), BATCH), one)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("cls", [BERT, Sometimes])
def test_fewer_batches_at_an_epochs_end_and_clipped_gradients(cls: Any, clip: float | None) -> None:
    """Of 6 batches 4 are a step, and the last 2; some may weigh nothing. Gradients are clipped
    after they are divided. The log has the mean of the steps' losses."""
    expected = written_down(method_of(cls), [[0, 1, 2, 3], [4, 5]], 8, 48, clip)
    found = trained(method_of(cls), 8, 4, samples=48, gradient_clip_val=clip)
    same(found, expected)
    assert clip is None or (expected["gradient"].norm(dim=1) > clip).all()
    if cls is BERT:
        assert_close(found["loss"].double(), expected["loss"], rtol=1e-6, atol=0)


class Nothing(BERT):
    """No batch weighs anything."""

    def step(self, batch: Batch) -> Step:
        return {**super().step(batch), "weight": torch.zeros(())}


def test_a_step_of_batches_without_weight_has_no_gradient_and_the_run_goes_on() -> None:
    method = method_of(Nothing, weight_decay=0.0)
    before = torch.cat([parameter.detach().double().flatten() for parameter in method.parameters()])
    found = trained(method, 8, 2)
    assert not found["gradient"].any() and found["loss"].isfinite()
    assert torch.equal(found["weights"], before)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_each_loss_is_accumulated_by_its_own_weight(one_with_order: Any, accumulate: int) -> None:
    found = trained(method_of(sentence_order=True), BATCH // accumulate, accumulate)
    same(found, one_with_order)
    assert_close(found["loss"], one_with_order["loss"], rtol=1e-6, atol=0)


ORDER: dict[str, Any] = {"sentence_order": True}
CASES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "plain": (BERT, {}, 1), "accumulated": (BERT, {}, 2), "unweighted": (Unweighted, {}, 1),
    "order": (BERT, ORDER, 1), "order, accumulated": (BERT, ORDER, 2),
}  # fmt: skip


def process(folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp"}
    found = {
        name: trained(method_of(cls, **init_args), BATCH // accumulate, accumulate, **two)
        for name, (cls, init_args, accumulate) in CASES.items()
    }
    torch.save(found, folder / f"{rank()}.pt")


@pytest.fixture(scope="module")
def two(run: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("weights")
    ended = run(folder, script=[__file__, str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.parametrize("case", ["plain", "accumulated", "order", "order, accumulated"])
def test_two_processes_train_like_one(two: list[Any], one: Any, one_with_order: Any, case: str) -> None:
    """Though each has other samples, and another number of tokens to predict. They log one
    process's losses too."""
    for each in two:
        same(each[case], one_with_order if "order" in case else one)
        assert torch.equal(each[case]["weights"], two[0][case]["weights"])
        assert_close(each[case]["loss"], (one_with_order if "order" in case else one)["loss"], rtol=1e-6, atol=0)


def test_a_mean_per_process_would_be_another_gradient(two: list[Any], one: Any) -> None:
    for each in two:
        wrong, right = each["unweighted"]["gradient"][0], one["gradient"][0]
        assert (wrong - right).norm() > 0.02 * right.norm()


if __name__ == "__main__":
    process(Path(sys.argv[1]))
