"""What the Trainer knows of a run makes its optimizer: samples and length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ssl_lightning.optim.configure import configure_optimizer, samples_a_step
from ssl_lightning.optim.recipes import OptimizerSpec

SPEC = OptimizerSpec("sgd", lr=0.1, weight_decay=0.0, momentum=0.0, reference_batch=256, warmup_epochs=0)


class Layer(LightningModule):
    """Keeps how many samples its optimizer was built for, and the learning rate of each step."""

    def __init__(self, spec: OptimizerSpec = SPEC) -> None:
        super().__init__()
        self.layer, self.spec = nn.Linear(2, 1), spec
        self.rates: list[float] = []

    def training_step(self, batch: Tensor) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        configured = configure_optimizer(self.spec, self, self.trainer)
        self.samples = samples_a_step(self.spec, self.trainer)
        return configured


class Counted(LightningDataModule):
    """A datamodule that says how many samples all processes together take in one batch."""

    batch_size = 64

    def train_dataloader(self) -> Any:
        return DataLoader(torch.randn(16, 2), batch_size=4)


class Ready:
    """Batches that are ready, of a size that nobody says."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        return iter(torch.randn(4, 4, 2))


def fitted(module: Layer, data: Any, **settings: Any) -> Layer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **settings)
    trainer.fit(
        module, **({"datamodule": data} if isinstance(data, LightningDataModule) else {"train_dataloaders": data})
    )
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (lambda: Counted(), 64),
        (lambda: DataLoader(torch.randn(16, 2), batch_size=4), 4),
        (lambda: Ready(), 256),  # the reference
    ],
)
def test_the_learning_rate_is_that_of_the_samples_of_a_step(data: Any, samples: int, accumulate: int) -> None:
    module = fitted(Layer(), data(), max_epochs=1, accumulate_grad_batches=accumulate)
    assert module.samples == samples * accumulate
    assert module.rates[0] == pytest.approx(0.1 * samples * accumulate / 256)
    steps = 4 // accumulate
    cosine = [0.5 * (1 + torch.tensor(torch.pi * k / steps).cos().item()) for k in range(steps)]
    assert module.rates[::accumulate] == pytest.approx([module.rates[0] * factor for factor in cosine])


@pytest.mark.filterwarnings("ignore")
def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(Exception, match=r"Layer's learning-rate schedule.*set max_epochs or max_steps"):
        fitted(Layer(), DataLoader(torch.randn(16, 2)), max_epochs=-1)
