"""MoCo, MoCo v3 and BYOL in two gloo processes, with different samples, are those of one process
with all samples.

Run as a script this file is one of the processes: `test_momentum_processes.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from proofs import remembered, tiny
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.moco import SHUFFLE, MoCo
from ssl_lightning.methods.moco_v3 import MoCoV3
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning import Encoder, View
from ssl_lightning.augment.random import fold
from ssl_lightning.distributed import rank

STEPS, BATCH = 5, 16
QUEUE = {"queue_length": 24, "output_dim": 8, "optimizer": "sgd", "lr": 3.0, "momentum": 0.8}
CASES: dict[str, tuple[Any, dict[str, Any], int]] = {  # method, its arguments, accumulated batches
    "moco": (MoCo, QUEUE, 1),
    "moco, one-sided, shuffled": (MoCo, {**QUEUE, "symmetric": False, "batch_norm": "shuffle"}, 1),
    "moco, accumulated": (MoCo, QUEUE, 2),
    "moco_v3": (MoCoV3, {"norm": "layer", "momentum": 0.8, "lr": 0.1}, 1),
    "byol": (BYOL, {"norm": "layer", "momentum": 0.8, "optimizer": "sgd", "lr": 3.0}, 1),
}
NUMBERS = [[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [100.0, 300.0, 500.0, 700.0]]
"""Each process's samples: six and four, so that their statistics tell from which they come."""
KEYS = [torch.arange(6), torch.arange(100, 104)]


class Standardised(Encoder):
    """One feature, a sample's number, and a BatchNorm that shows which samples came together."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 1
        self.norm = nn.BatchNorm1d(1, affine=False, momentum=1.0)

    def forward(self, view: View) -> Tensor:
        normed: Tensor = self.norm(view.x)
        return normed


class Patches(Encoder):
    """The beginning of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.patch_embedding = nn.Conv2d(1, 8, 4, stride=4)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))

    def forward(self, view: View) -> Tensor:
        features: Tensor = self.mlp(self.patch_embedding(view.x).flatten(2).transpose(1, 2).relu()).mean(dim=1)
        return features


class Broadcast(pl.Callback):
    """Finds out which of a method's buffers DistributedDataParallel sends round."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        names = {id(buffer): name for name, buffer in pl_module.named_buffers()}
        self.names = [names[id(buffer)] for buffer in trainer.model.modules_buffers]


def shuffled_keys() -> dict[str, Tensor]:
    """The keys of `NUMBERS`, and the mean that this process's BatchNorm saw."""
    method = MoCo(Standardised(), batch_norm="shuffle").train()
    network: Any = method.teacher.module
    network[1] = nn.Identity()
    keys = method.keys(View(torch.tensor(NUMBERS[rank()])[:, None]), KEYS[rank()])
    return {"keys": keys[:, 0], "mean": network[0].norm.running_mean[0]}


def process(folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp"}
    found: dict[str, Any] = {}
    for name, (cls, init_args, accumulate) in CASES.items():
        broadcast = Broadcast()
        found[name] = remembered(tiny(cls, **init_args), STEPS, BATCH // accumulate, accumulate, broadcast, **two)
        found[name]["broadcast"] = broadcast.names
    frozen = MoCoV3(Patches(), norm="layer", lr=1.0)
    before = frozen.encoder.patch_embedding.weight.detach().clone()  # type: ignore[union-attr]
    found["frozen"] = remembered(frozen, 3, BATCH, **two)["state"] | {"before": before}
    found["shuffled"] = shuffled_keys()
    for batch_norm in ("split", "shuffle"):
        try:
            remembered(tiny(MoCo, batch_norm=batch_norm, parts=2), 1, BATCH, **two, sync_batchnorm=True)
        except MisconfigurationException as error:
            found[f"sync_batchnorm with {batch_norm}"] = str(error)
    torch.save(found, folder / f"{rank()}.pt")


@pytest.fixture(scope="module")
def two(run: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("processes")
    ended = run(folder, script=[__file__, str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one(two: list[dict[str, Any]], case: str) -> None:
    """Losses, gradients, weights, teacher and queue of every step; accumulation included, against
    one large batch."""
    cls, init_args, _ = CASES[case]
    one = remembered(tiny(cls, **init_args), STEPS, BATCH)
    assert_close((two[0][case]["loss"] + two[1][case]["loss"]) / 2, one["loss"], rtol=1e-9, atol=0)
    assert not torch.allclose(two[0][case]["loss"], two[1][case]["loss"], rtol=1e-3), "each has samples of its own"
    for name in ("gradient", "weights", "teacher", "queue"):
        for each in two:
            assert_close(
                each[case][name], one[name], rtol=1e-6, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
            )
        assert torch.equal(two[0][case][name], two[1][case][name]), f"{name} is the same bit for bit in both"
        if one[name].numel():
            assert (one[name][-1] - one[name][0]).abs().max() > 1e-3, (
                f"{name} moved, so that a difference would be seen"
            )


@pytest.mark.slow
def test_the_queue_is_not_sent_round(two: list[dict[str, Any]]) -> None:
    for each in two:
        assert each["moco"]["broadcast"] == ["queue.place"]


@pytest.mark.slow
def test_a_shuffled_key_has_the_statistics_of_another_process_and_comes_back_to_its_query(
    two: list[dict[str, Any]],
) -> None:
    numbers = torch.tensor(NUMBERS[0] + NUMBERS[1])
    order = fold(torch.cat(KEYS), SHUFFLE).argsort()
    parts = [numbers[order[:6]], numbers[order[6:]]]  # what either process embeds
    keys = torch.empty(10)
    keys[order] = torch.cat([F.batch_norm(part[:, None], None, None, training=True)[:, 0] for part in parts])
    for each, part, own, mine in zip(two, parts, NUMBERS, keys.split([6, 4]), strict=True):
        assert_close(each["shuffled"]["keys"], mine)
        assert_close(each["shuffled"]["mean"], part.mean())
        assert set(part.tolist()) != set(own)


@pytest.mark.slow
def test_a_frozen_patch_embedding_stays_and_is_not_missed(two: list[dict[str, Any]]) -> None:
    for each in two:
        for place in ("encoder", "teacher.module.0"):
            assert torch.equal(each["frozen"][f"{place}.patch_embedding.weight"], two[0]["frozen"]["before"].double())


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["split", "shuffle"])
def test_sync_batchnorm_does_not_undo_it_in_silence(two: list[dict[str, Any]], batch_norm: str) -> None:
    for each in two:
        assert (
            f"sync_batchnorm gives all samples of a step the same statistics, which MoCo(batch_norm='{batch_norm}')"
            in each[f"sync_batchnorm with {batch_norm}"]
        )


if __name__ == "__main__":
    process(Path(sys.argv[1]))
