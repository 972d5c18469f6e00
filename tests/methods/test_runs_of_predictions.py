"""Two processes whose recordings are of other lengths train next_step, denoise and infill like one;
accumulated batches equal a large one; and all three learn.

Run as a script this file is one of the processes: `test_runs_of_predictions.py FOLDER`, which
Lightning starts once more.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.datamodules.tones import Tones
from ssl_lightning.methods.denoise import Denoise
from ssl_lightning.methods.infill import Infill
from ssl_lightning.methods.next_step import NextStep
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, SSLMethod
from ssl_lightning.data.peek import evaluating
from ssl_lightning.distributed import rank
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.testing import TinyImages

STEPS, BATCH = 5, 16
METHODS: dict[str, type[SSLMethod]] = {"next_step": NextStep, "denoise": Denoise, "infill": Infill}


class Record(pl.Callback):
    """The gradient of each optimizer step."""

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters()]))


class Recordings(TinyImages):
    """Images as log-mels of 16 bands, of which a few frames up to all are real: of even and of odd
    samples, of unlike lengths."""

    def make_batch(self, fetched: Any) -> Batch:
        made = super().make_batch(fetched)
        index, (view,) = made["index"], made["views"]
        real = torch.arange(16) < torch.where(index % 2 == 0, 16, 4 + index % 5)[:, None]
        x = torch.where(real[:, None, None], view.x.double(), 30.0)
        return {**made, "views": [view._replace(x=x, segment=real * torch.arange(1, len(x) + 1)[:, None])]}


def method_of(name: str, lr: float = 0.003, **sizes: int) -> Any:
    torch.manual_seed(rank())  # DistributedDataParallel must make them equal
    encoder = FrameTransformer(
        **{"mels": 16, "frames_per_token": 1, "dim": 8, "depth": 1, "heads": 2, **sizes}, causal=name == "next_step"
    )
    return METHODS[name](encoder, warmup_epochs=0, lr=lr)


def trained(name: str, processes: int = 1, accumulate: int = 1) -> dict[str, Any]:
    record, several = Record(), {"devices": 2, "strategy": "ddp"} if processes > 1 else {"devices": 1}
    method = method_of(name)
    pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=-1,
        max_steps=STEPS,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record],
        **several,
    ).fit(method, datamodule=Recordings(samples=70, batch_size=BATCH // accumulate))
    return {"gradient": torch.stack(record.gradients), "state": method.state_dict()}


def assert_equal_runs(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Gradients of every step, and the weights at the end."""
    error = (ours["gradient"] - theirs["gradient"]).norm(dim=1) / theirs["gradient"].norm(dim=1)
    assert len(error) == STEPS and error.max() < 1e-6, error
    for key, value in theirs["state"].items():
        assert_close(ours["state"][key], value, rtol=1e-5, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return {name: trained(name) for name in METHODS}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    from test_processes import launch

    folder = tmp_path_factory.mktemp("processes")
    ended = launch(__file__, str(folder))
    assert ended.returncode == 0, ended.stderr
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.slow
def test_two_processes_have_the_gradients_and_weights_of_one(
    one: dict[str, Any], two: list[dict[str, Any]], name: str
) -> None:
    for each in two:
        assert_equal_runs(each[name], one[name])


@pytest.mark.parametrize("name", list(METHODS))
def test_accumulated_batches_equal_a_large_one(one: dict[str, Any], name: str) -> None:
    assert_equal_runs(trained(name, accumulate=2), one[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "worth"), [("denoise", 60, 0.2), ("next_step", 100, 0.07), ("infill", 100, 0.04)]
)
def test_it_learns_what_needs_learning(
    name: str, steps: int, worth: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On sounds that it has not seen, an untrained network is worse than what needs no learning,
    and a trained one better."""
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path))
    data = Tones(batch_size=64, hop=0.02)
    method = method_of(name, lr=0.01, mels=32, frames_per_token=1 if name == "next_step" else 2, dim=48, heads=4)

    def skill() -> float:
        source, index = data.split("test"), torch.arange(100)
        assert source is not None
        fetched = data.maker.cut({"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index)})
        with evaluating(method), torch.no_grad():
            return float(method.scores([data.make_batch(fetched)])["skill"])

    data.serve(method)
    untrained = skill()
    pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(method, datamodule=data)
    assert untrained < -0.5 and skill() > worth, (untrained, skill())


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: dict[str, dict[str, Tensor]] = {name: trained(name, processes=2) for name in METHODS}
    torch.save(found, Path(sys.argv[1]) / f"{rank()}.pt")
