"""SimCLR with a ResNet-18 at 32x32 by lightly in Lightning, on Fashion-MNIST. Runs in lightly's environment; `throughput.py` calls it.

    python lightly_throughput.py ROOT same|defaults PRECISION WORKERS

Follows lightly's examples/pytorch_lightning/simclr.py throughout: torchvision's ResNet-18, LightlyDataset.from_torch_dataset,
SimCLRTransform, MultiViewCollate, SimCLRProjectionHead, NTXentLoss, SGD, a plain Trainer. The stem is that for small images (3x3,
stride 1, no pooling), the batch 128, and the images are RGB. `same` takes the transform of its cifar10_benchmark.py, without blur,
and SimCLR's head and momentum; `defaults` the example's.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from paced import Paced
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader


class SimCLR(pl.LightningModule):
    def __init__(self, same: bool) -> None:
        super().__init__()
        resnet = torchvision.models.resnet18()
        resnet.conv1, resnet.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        self.backbone = nn.Sequential(*list(resnet.children())[:-1])
        self.projection_head = SimCLRProjectionHead(512, 512, 128) if same else SimCLRProjectionHead(512, 2048, 2048)
        self.criterion = NTXentLoss()
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        (x0, x1), _, _ = batch
        return self.criterion(self.forward(x0), self.forward(x1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        momentum, weight_decay = (0.9, 1e-4) if self.same else (0.0, 0.0)
        return torch.optim.SGD(self.parameters(), lr=0.06, momentum=momentum, weight_decay=weight_decay)


class RGB:
    """Views of an image with three channels."""

    def __init__(self, transform: SimCLRTransform) -> None:
        self.transform = transform

    def __call__(self, image: Image) -> list[Tensor]:
        return self.transform(image.convert("RGB"))


def main(root: str, case: str, precision: Any, workers: str) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    same = case == "same"
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0) if same else SimCLRTransform(input_size=32)
    images = torchvision.datasets.FashionMNIST(root, train=True)
    loader = DataLoader(
        LightlyDataset.from_torch_dataset(images, transform=RGB(transform)),
        batch_size=128,
        collate_fn=MultiViewCollate(),
        shuffle=True,
        drop_last=True,
        num_workers=int(workers),
    )
    trainer = pl.Trainer(max_epochs=10, devices=1, precision=precision, callbacks=[Paced()], enable_progress_bar=False)
    trainer.fit(model=SimCLR(same), train_dataloaders=loader)


if __name__ == "__main__":
    main(*sys.argv[1:])
