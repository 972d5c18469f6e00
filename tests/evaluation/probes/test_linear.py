"""The live linear probe: it learns, beside the encoder and without touching it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR
from torch import nn

import ssl_lightning
from ssl_lightning.data.order import Order
from ssl_lightning.data.peek import embed
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.measures import balanced, class_weights
from ssl_lightning.evaluation.probes.base import Labelled
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import Head, OnlineLinearProbe
from ssl_lightning.evaluation.protocol import linear_accuracy
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.testing import TinyEncoder, TinyImages


def fit(
    method: SimCLR,
    data: Any,
    root: Path,
    probe: OnlineLinearProbe,
    *callbacks: pl.Callback,
    steps: int,
    ckpt_path: Path | None = None,
) -> Any:
    trainer = ssl_lightning.Trainer(
        max_steps=steps,
        max_epochs=1000,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(root),
        enable_progress_bar=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        callbacks=[probe, KNNProbe(enabled=False), Report(enabled=False), *callbacks],
    )
    trainer.fit(method, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def curve(trainer: Any) -> list[float]:
    rows = rows_of(trainer)
    return [row["probe/linear/top1"] for row in rows if "probe/linear/top1" in row]


@pytest.mark.slow
@pytest.mark.usefixtures("all_strengths")
def test_on_digits_it_comes_within_a_few_points_of_logistic_regression_from_its_first_looks_on(tmp_path: Path) -> None:
    """With every default, in a run of 8 epochs: against a fit to convergence on the same samples,
    at the same, last step."""
    torch.manual_seed(0)
    method, data, probe = SimCLR(ConvEncoder(channels=1, width=16)), Digits(), OnlineLinearProbe()
    seen = curve(fit(method, data, tmp_path, probe, steps=80))
    labelled = probe.sets[""]
    train, val = (embed(method, data, source).numpy() for source in (labelled.train, labelled.val))
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    best = linear_accuracy(
        (train - mean) / deviation, labelled.train_labels.numpy(), (val - mean) / deviation, labelled.val_labels.numpy()
    )
    assert best > 0.9
    assert seen[-1] > best - 0.06
    assert seen[0] > 0.8  # after one or two embedded batches; a coin would say 0.1


def test_a_run_of_a_few_steps_is_not_judged_by_an_untrained_head(tmp_path: Path) -> None:
    """By default a head takes a step each 9 of the encoder's, here by 10 labels of each class at
    its only look; before, it said 10 % where the closing table said 98 %."""
    torch.manual_seed(0)
    probe = OnlineLinearProbe()
    (seen,) = curve(fit(SimCLR(ConvEncoder(channels=1, width=8)), Digits(), tmp_path, probe, steps=2))
    assert probe.period > 2 and probe.steps == probe.fewest == 1
    assert seen > 0.75


def test_the_head_follows_features_that_move() -> None:
    """Features that are shifted and stretched by training are standardised as they are now, not as
    they were."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(512) % 4
    features = torch.randn(512, 16, generator=generator) + 3 * torch.eye(16)[labels]
    head = Head(16, 4, lr=0.01, weight_decay=1e-3, device=torch.device("cpu"))
    for step in range(12):
        part = torch.randperm(512, generator=generator)[:128]
        head.learn((features[part] + 5 * step) * (1 + step), labels[part])
    scores = head.scores((features + 5 * 11) * 12)
    assert float((scores.argmax(dim=1) == labels).float().mean()) > 0.9


def test_a_rare_class_counts_as_much_as_the_common_one() -> None:
    """5 % lesions: a head without class weights calls nearly all of them normal."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(2000) % 20 == 0).long()
    features = torch.randn(2000, 8, generator=generator) + 0.7 * labels[:, None]
    found = []
    for weights in (class_weights(labels), None):
        head = Head(8, 2, lr=0.01, weight_decay=1e-3, device=torch.device("cpu"), weights=weights)
        for _ in range(30):
            part = torch.randperm(1000, generator=generator)[:128]
            head.learn(features[part], labels[part])
        found.append(balanced(head.scores(features[1000:]).argmax(dim=1) == labels[1000:], labels[1000:]))
    assert found[0] > 0.75 > 0.65 > found[1]


def test_a_new_head_is_always_the_same_and_draws_from_no_generator() -> None:
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random = torch.get_rng_state()
        heads.append(Head(8, 4, lr=0.01, weight_decay=0.0, device=torch.device("cpu")).module.state_dict())
        assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_every_labelled_sample_is_learned_from_once_before_any_comes_again() -> None:
    """Batches of 12 of 40 samples: three a pass, then a new order; a function of the step count
    alone."""
    probe, labelled = OnlineLinearProbe(batch_size=12), Labelled(TinyImages(samples=40), None, None)
    drawn = []
    for steps in range(6):
        probe.steps = steps
        drawn.append(probe.draw(Order(len(labelled.train), 1)))
    passes = [torch.cat(drawn[:3]), torch.cat(drawn[3:])]
    assert all(len(each.unique()) == 36 for each in passes)
    assert not torch.equal(passes[0], passes[1])
    probe.steps = 1
    assert torch.equal(probe.draw(Order(len(labelled.train), 1)), drawn[1])


class Watch(pl.Callback):
    """Compares the encoder before and after everything that runs between two training steps."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.random: list[bool] = []

    def look(self, pl_module: Any) -> dict[str, Any]:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        gradients = {f"{name}.grad": p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}
        modes = {f"{name}.training": torch.tensor(module.training) for name, module in pl_module.named_modules()}
        return {**state, **gradients, **modes, "random": torch.get_rng_state()}


class Before(Watch):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.state = self.look(pl_module)


class After(Watch):
    def __init__(self, before: Before) -> None:
        super().__init__()
        self.before, self.looks = before, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        now, was = self.look(pl_module), self.before.state
        assert now.keys() == was.keys()
        self.looks += 1
        self.changed += [name for name in now if not torch.equal(now[name], was[name])]


def test_a_look_of_either_probe_leaves_weights_statistics_gradients_modes_and_random_numbers_alone(
    tmp_path: Path,
) -> None:
    """Between the callback before the probes and the one after them; with batch norm, and one of
    them frozen."""
    method = SimCLR(ConvEncoder(channels=1, width=4))
    frozen = next(module for module in method.modules() if isinstance(module, nn.BatchNorm2d))
    before = Before()
    after = After(before)

    class Freeze(pl.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            frozen.eval()

    trainer = ssl_lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[Freeze(), before, after, Report(enabled=False)],
    )
    probes = [OnlineLinearProbe(every_n_steps=1, eval_every_n_steps=1), KNNProbe(every_n_steps=1)]
    others = [each for each in trainer.callbacks if not isinstance(each, (OnlineLinearProbe, KNNProbe, Before, After))]
    trainer.callbacks = [*others, before, *probes, after]
    trainer.fit(method, datamodule=TinyImages())
    assert {"probe/knn/top1", "probe/linear/top1"} <= trainer.callback_metrics.keys()
    assert after.looks == 4 and after.changed == [] and not frozen.training and method.training


def test_its_accuracy_is_the_share_of_right_answers_as_torchmetrics_counts_them() -> None:
    labelled = Labelled(TinyImages(samples=40), None, None)
    scores = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    right = sum(int(row.argmax()) == int(label) for row, label in zip(scores, labelled.val_labels, strict=True))
    assert labelled.measures(scores, "top1")["top1"] == pytest.approx(right / 40)


def test_a_restored_head_goes_on_where_it_was(tmp_path: Path) -> None:
    """Weights, statistics, optimizer and step count are those of the checkpoint."""
    first = OnlineLinearProbe(every_n_steps=1, batch_size=16)
    trainer = fit(SimCLR(TinyEncoder()), TinyImages(), tmp_path, first, Checkpoint(minutes=0), steps=4)
    state = first.state_dict()
    second = OnlineLinearProbe(every_n_steps=100, batch_size=16)  # takes no step of its own
    newest = newest_of(trainer.run_folder)
    fit(SimCLR(TinyEncoder()), TinyImages(), tmp_path, second, steps=5, ckpt_path=newest)
    assert second.steps == 4
    for name, value in state["heads"][""]["head"].items():
        assert torch.equal(second.heads[""].module.state_dict()[name], value), name
    then, now = (each["heads"][""]["optimizer"]["state"][0] for each in (state, second.state_dict()))
    assert torch.equal(then["exp_avg"], now["exp_avg"]) and then["step"] == now["step"] > 0


@pytest.mark.parametrize(
    "argument, value",
    [
        ("lr", 0.0),
        ("weight_decay", -1.0),
        ("batch_size", 1),
        ("queries", 0),
        ("eval_every_n_steps", 0),
        ("every_n_steps", 0),
        ("budget", 2.0),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        OnlineLinearProbe(**{argument: value})
