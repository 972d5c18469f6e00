"""A method by lightly in Lightning, from given initial weights and settings. Runs in lightly's
environment; `against.py` calls it.

    python lightly_learning.py START.pt TRAINED.pt

The methods are those of `lightly_methods.py`, the data LightlyDataset.from_torch_dataset and
MultiViewCollate, as in lightly's examples/pytorch_lightning.
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
from lightly_methods import METHODS, transform
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST


class Encoder(nn.Module):
    """The architecture of ssl_lightning's ConvEncoder with its defaults, under the same parameter
    names."""

    def __init__(self, widths: tuple[int, ...] = (1, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(self.stage(*pair, stride=2 if place else 1) for place, pair in enumerate(pairwise(widths)))
        )

    @staticmethod
    def stage(channels: int, width: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x).mean((2, 3))


class Optimizer:
    """The optimizer and the learning rate of every step as ssl_lightning has them."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start

    def __call__(self, parameters: list[nn.Parameter]) -> Any:
        lrs = self.start["lrs"]
        groups = [
            {
                "params": [parameter for parameter in parameters if parameter.ndim > 1],
                "weight_decay": self.start["weight_decay"],
            },
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
    backbone = Encoder()
    backbone.load_state_dict(start["encoder"])
    model = METHODS[start["method"]](backbone, 256, start["settings"], Optimizer(start))
    images = FashionMNIST(start["root"], train=True)
    images.data, images.targets = images.data[start["index"]], images.targets[start["index"]]
    loader = DataLoader(
        LightlyDataset.from_torch_dataset(images, transform=transform(start["method"], start["policy"])),
        batch_size=start["batch_size"],
        collate_fn=MultiViewCollate(),
        shuffle=True,
        drop_last=True,
        num_workers=start["workers"],
    )
    trainer = pl.Trainer(
        max_epochs=start["epochs"], accelerator="cpu", precision=start["precision"], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model=model, train_dataloaders=loader)
    torch.save(model.backbone.state_dict(), trained_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
