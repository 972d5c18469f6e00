"""SimCLR by lightly in Lightning, from given initial weights and settings. Runs in lightly's environment; `against.py` calls it.

    python lightly_learning.py START.pt TRAINED.pt

Follows lightly's examples/pytorch_lightning/simclr.py: LightlyDataset.from_torch_dataset, SimCLRTransform, MultiViewCollate,
SimCLRProjectionHead, NTXentLoss, one forward for each view. The transform has the settings of its
docs/source/getting_started/benchmarks/cifar10_benchmark.py, `input_size=32, gaussian_blur=0` and `cj_strength=0.5`, or SimCLRTransform's
default of 1.0 for the last.
"""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST


class Encoder(nn.Module):
    """The architecture of ssl_lightning's ConvEncoder with its defaults, under the same parameter names."""

    def __init__(self, widths: tuple[int, ...] = (1, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(self.stage(*pair, stride=2 if place else 1) for place, pair in enumerate(pairwise(widths))))

    @staticmethod
    def stage(channels: int, width: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x).mean((2, 3))


class SimCLR(pl.LightningModule):
    def __init__(self, start: dict[str, Any]) -> None:
        super().__init__()
        self.start = start
        self.backbone = Encoder()
        self.backbone.load_state_dict(start["encoder"])
        self.projection_head = SimCLRProjectionHead(256, 256, 128)
        self.criterion = NTXentLoss(temperature=start["temperature"])

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        (x0, x1), _, _ = batch
        return self.criterion(self.forward(x0), self.forward(x1))

    def configure_optimizers(self) -> Any:
        """The optimizer and the learning rate of every step as ssl_lightning has them."""
        parameters, lrs = list(self.parameters()), self.start["lrs"]
        groups = [
            {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": self.start["weight_decay"]},
            {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if self.start["optimizer"] == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=1.0, betas=self.start["betas"])
        else:
            optimizer = torch.optim.SGD(groups, lr=1.0, momentum=self.start["momentum"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lrs[min(step, len(lrs) - 1)])
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def main(start_path: str, trained_path: str) -> None:
    warnings.simplefilter("ignore")
    start = torch.load(start_path, weights_only=True)
    pl.seed_everything(start["seed"], workers=True, verbose=False)
    torch.set_num_threads(start["threads"])
    mean, std = start["mean"], start["std"]
    transform = SimCLRTransform(input_size=32, cj_strength=start["strength"], gaussian_blur=0, normalize={"mean": mean, "std": std})
    images = FashionMNIST(start["root"], train=True)
    images.data, images.targets = images.data[start["index"]], images.targets[start["index"]]
    loader = DataLoader(
        LightlyDataset.from_torch_dataset(images, transform=transform),
        batch_size=start["batch_size"],
        collate_fn=MultiViewCollate(),
        shuffle=True,
        drop_last=True,
        num_workers=start["workers"],
    )
    model = SimCLR(start)
    trainer = pl.Trainer(
        max_epochs=start["epochs"], accelerator="cpu", precision=start["precision"], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model=model, train_dataloaders=loader)
    torch.save(model.backbone.state_dict(), trained_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
