"""A training inside of a run's end takes the steps that the run would take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ssl_lightning.methods.finetune import Finetune
from torch import nn

import ssl_lightning
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.sources import Source
from ssl_lightning.evaluation import refit
from ssl_lightning.evaluation.fitting import descend
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import TinyEncoder, TinyImages

CPU: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), precision="32-true")


def test_batches_are_accumulated_and_gradients_clipped_as_in_one_large_batch() -> None:
    """The last step takes the batch that is left."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 4, 3), torch.randn(5, 4, 1)
    networks = [nn.Linear(3, 1), nn.Linear(3, 1)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.5) for each in networks]
    schedules = [torch.optim.lr_scheduler.ConstantLR(each) for each in optimizers]

    def clip(optimizer: Any) -> None:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.1)

    def loss(batch: Any) -> Any:
        return (networks[0](batch[0]) - batch[1]).square().mean()

    descend(loss, zip(x, y, strict=True), 3, optimizers[0], schedules[0], CPU, accumulated=2, clip=clip)  # type: ignore[arg-type]  # no views
    for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
        optimizers[1].zero_grad()
        (networks[1](x[part]) - y[part]).square().mean().backward()
        clip(optimizers[1])
        optimizers[1].step()
        schedules[1].step()
    assert torch.allclose(networks[0].weight, networks[1].weight, atol=1e-6)


class NoVal(TinyImages):
    def source(self, split: Split) -> Source | None:
        return None if split == "val" else super().source(split)


class Later(Finetune):
    """Its validation accuracy rises with every pass."""

    def judge(self, *args: Any) -> Any:
        return super().judge(*args)._replace(balanced=float(self.trainer.global_step))


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3, "gradient_clip_val": 1e-9}])
def test_learning_from_all_labels_accumulates_and_clips_as_the_run(
    settings: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 samples 56 are learned from, in batches of 8: the last stage takes two passes over all,
    which are 16 batches."""
    taken: list[tuple[int, int, bool]] = []

    def spy(loss: Any, batches: Any, steps: int, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        before = method.encoder.conv.weight.detach().clone()  # type: ignore[operator,union-attr]
        drawn = list(batches)
        descend(loss, drawn, steps, optimizer, *args, **kwargs)
        moved = float((method.encoder.conv.weight.detach() - before).abs().max())  # type: ignore[operator,union-attr]
        taken.append((len(drawn), steps, moved > 1e-7))

    monkeypatch.setattr(refit, "descend", spy)
    torch.manual_seed(0)
    method = Later(TinyEncoder(), lr=0.1, optimizer_args={"name": "sgd", "weight_decay": 0.0})
    trainer = ssl_lightning.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False, logger=False,
        callbacks=[Report(enabled=False)], **settings,
    )  # fmt: skip
    trainer.fit(method, datamodule=NoVal(samples=64, batch_size=8))
    assert taken == [(16, 6, False) if settings else (16, 16, True)]
