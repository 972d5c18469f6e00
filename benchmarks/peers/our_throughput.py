"""SimCLR with a ResNet-18 at 32x32 by ssl_lightning, on Fashion-MNIST; `throughput.py` calls it.

    python our_throughput.py ROOT same|defaults PRECISION

`defaults` is the command `ssl-lightning fit --model simclr --data fashion_mnist`. `same` has three channels, lightly's operations
and optimizer, and no live probes; the rest are the defaults.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from paced import Paced


def defaults(root: str, precision: str) -> None:
    from ssl_lightning.cli import main

    own = ["--data.root", root, "--data.download", "false", "--trainer.precision", precision, "--trainer.callbacks+=paced.Paced"]
    sys.exit(main(["fit", "--model", "simclr", "--data", "fashion_mnist", *own]))


def same(root: str, precision: Any) -> None:
    from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
    from ssl_lightning.methods.simclr import SimCLR

    from ssl_lightning import Trainer
    from ssl_lightning.augment.image import ImagePolicy
    from ssl_lightning.encoders.timm import TimmEncoder
    from ssl_lightning.probes.knn import KNNProbe
    from ssl_lightning.probes.linear import LinearProbe
    from ssl_lightning.report import Report

    class RGB(FashionMNIST):
        """Fashion-MNIST in three channels, under SimCLR's recipe for CIFAR."""

        channels = 3
        policy = ImagePolicy(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

        def in_order(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, None].expand(-1, 3, -1, -1).contiguous()

    torch.manual_seed(0)
    method = SimCLR(TimmEncoder("resnet18", small_images=True), optimizer="sgd")
    trainer = Trainer(max_epochs=10, precision=precision, callbacks=[LinearProbe(False), KNNProbe(False), Report(False), Paced()])
    trainer.fit(method, datamodule=RGB(root, download=False))


if __name__ == "__main__":
    _, root, case, precision = sys.argv
    {"same": same, "defaults": defaults}[case](root, precision)
