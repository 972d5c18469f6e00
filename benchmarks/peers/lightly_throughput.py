"""A method with a ResNet-18 at 32x32 by lightly in Lightning, on Fashion-MNIST. Runs in lightly's
environment; `throughput.py` calls it.

    python lightly_throughput.py ROOT METHOD PRECISION SETTINGS POLICY WORKERS

Follows lightly's examples/pytorch_lightning throughout: torchvision's ResNet-18,
LightlyDataset.from_torch_dataset, MultiViewCollate, SGD, a plain Trainer, and the methods of
`lightly_methods.py`. The stem is that for small images (3x3, stride 1, no pooling), the batch 128,
and the images are RGB. SETTINGS of the method and POLICY of its views are JSON; `sgd` in the former
is the optimizer's momentum and weight decay.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly_methods import METHODS, transform
from paced import Paced
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader


def resnet18() -> nn.Module:
    """512 features of an image."""
    resnet = torchvision.models.resnet18()
    resnet.conv1, resnet.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())


class RGB:
    """Views of an image with three channels."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Image) -> list[Tensor]:
        return self.transform(image.convert("RGB"))


def main(root: str, method: str, precision: Any, settings: str, policy: str, workers: str) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    images = torchvision.datasets.FashionMNIST(root, train=True)
    loader = DataLoader(
        LightlyDataset.from_torch_dataset(images, transform=RGB(transform(method, json.loads(policy)))),
        batch_size=128,
        collate_fn=MultiViewCollate(),
        shuffle=True,
        drop_last=True,
        num_workers=int(workers),
    )
    trainer = pl.Trainer(max_epochs=10, devices=1, precision=precision, callbacks=[Paced()], enable_progress_bar=False)
    options = json.loads(settings)
    sgd = partial(torch.optim.SGD, lr=0.06, **options.pop("sgd"))
    trainer.fit(model=METHODS[method](resnet18(), 512, options, sgd), train_dataloaders=loader)


if __name__ == "__main__":
    main(*sys.argv[1:])
