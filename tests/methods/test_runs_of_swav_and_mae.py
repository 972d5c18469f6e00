"""Two processes with different samples train SwAV and MAE like one with all of them; MAE's
accumulated batches equal a large one.

Run as a script this file is one of the processes: `test_runs_of_swav_and_mae.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.mae import MAE
from ssl_lightning.methods.swav import SwAV
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.distributed import rank
from ssl_lightning.method import SSLMethod
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyTokenEncoder

pytestmark = pytest.mark.slow

SAMPLES, BATCH, STEPS = 70, 16, 8
"""4 steps an epoch; passes end within a batch."""


class Record(pl.Callback):
    """What each batch and each optimizer step made: codes, hidden places, losses, gradients."""

    def __init__(self) -> None:
        self.found: dict[str, list[Tensor]] = {"codes": [], "hidden": [], "loss": [], "gradient": []}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for name, part in (("assign", "codes"), ("reconstruct", "hidden")):
            if hasattr(pl_module, name):
                setattr(pl_module, name, self.noted(getattr(pl_module, name), part))

    def noted(self, function: Any, part: str) -> Any:
        def wrapper(*args: Any) -> Any:
            out = function(*args)
            self.found[part].append(out if part == "codes" else out[1])
            return out

        return wrapper

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.found["gradient"].append(
            torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.found["loss"].append(outputs["loss"].detach())


def swav() -> SwAV:
    """The prototypes rest for 2 steps; the queue, of which one process brings 10 samples and the
    other 11, is used from step 3 on."""
    return SwAV(
        TinyEncoder(),
        local_views=2,
        output_dim=8,
        prototypes=12,
        queue_length=21,
        queue_epochs=0.75,
        freeze_epochs=0.5,
        norm="layer",
        optimizer="sgd",
        lr=1.0,
        warmup_epochs=0,
    )


def mae() -> MAE:
    return MAE(TinyTokenEncoder(), decoder_dim=16, warmup_epochs=0, lr=0.02)


def train(build: Any, processes: int = 1, batch_size: int = BATCH, accumulate: int = 1) -> dict[str, Any]:
    torch.manual_seed(rank())  # DistributedDataParallel must make them equal
    method: SSLMethod = build()
    for module in method.modules():
        if "Drop" in type(module).__name__:
            module.eval()
    record, several = Record(), {"devices": 2, "strategy": "ddp"} if processes > 1 else {"devices": 1}
    pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record],
        **several,
    ).fit(method, datamodule=TinyImages(samples=SAMPLES, batch_size=batch_size))
    return {
        **{name: torch.stack(values) for name, values in record.found.items() if values},
        "state": method.state_dict(),
    }


@pytest.fixture(scope="module")
def two(run: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    ended = run(folder, script=[__file__, str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return {build.__name__: train(build) for build in (swav, mae)}


def assert_equal_runs(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Gradients of every step, and weights and buffers at the end."""
    error = (ours["gradient"] - theirs["gradient"]).norm(dim=1) / theirs["gradient"].norm(dim=1)
    assert len(error) == STEPS and error.max() < 1e-4, error
    for name, value in theirs[
        "state"
    ].items():  # Adam makes steps of the noise that an attention's key bias has for a gradient
        assert_close(
            ours["state"][name],
            value,
            rtol=1e-4,
            atol=1e-3 if name.endswith("bias") else 1e-5,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swav", "mae"])
def test_two_processes_have_the_losses_gradients_and_weights_of_one(
    one: dict[str, Any], two: list[dict[str, Any]], name: str
) -> None:
    for each in two:
        assert_equal_runs(each[name], one[name])
    assert_close((two[0][name]["loss"] + two[1][name]["loss"]) / 2, one[name]["loss"], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, two[1][name]["state"][key]) for key, value in two[0][name]["state"].items())


@pytest.mark.slow
def test_two_processes_assign_and_enqueue_like_one(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    """Codes of every step, half of them with the queue; the queue at the end, its place included,
    is compared with the weights."""
    codes = torch.cat([each["swav"]["codes"] for each in two], dim=1)  # [steps * 2 views, BATCH, K]
    assert codes.shape == (2 * STEPS, BATCH, 12)
    assert_close(codes, one["swav"]["codes"], rtol=1e-4, atol=1e-5)
    assert int(one["swav"]["state"]["queue.place"]) == STEPS * BATCH % 21


def test_two_processes_hide_what_one_hides(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert torch.equal(torch.cat([each["mae"]["hidden"] for each in two], dim=1), one["mae"]["hidden"])


def test_accumulated_batches_of_mae_equal_a_large_one(one: dict[str, Any]) -> None:
    accumulated = train(mae, batch_size=BATCH // 2, accumulate=2)
    assert_equal_runs(accumulated, one["mae"])
    assert_close(
        accumulated["loss"].view(STEPS, 2).sum(dim=1), one["mae"]["loss"], rtol=1e-5, atol=1e-6
    )  # Lightning has halved them


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {build.__name__: train(build, processes=2) for build in (swav, mae)}
    torch.save(found, Path(sys.argv[1]) / f"{rank()}.pt")
