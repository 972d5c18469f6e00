"""A method with a ResNet-18 at 32x32 by ssl_lightning, on Fashion-MNIST; `throughput.py` calls it.

    python our_throughput.py ROOT METHOD same|defaults PRECISION SETTINGS POLICY

`defaults` is the command `ssl-lightning fit --model METHOD --data fashion_mnist`. `same` has three
channels, lightly's optimizer, and no live probes, with these settings of the method and this
strength of its views, both in JSON; the rest are the defaults.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from paced import Paced


def defaults(root: str, method: str, precision: str, *_: str) -> None:
    from ssl_lightning.cli.main import main

    own = [
        "--data.root",
        root,
        "--data.download",
        "false",
        "--trainer.precision",
        precision,
        "--trainer.callbacks+=paced.Paced",
    ]
    sys.exit(main(["fit", "--model", method, "--data", "fashion_mnist", *own]))


def same(root: str, name: str, precision: Any, settings: str, policy: str) -> None:
    from ssl_lightning.datamodules.fashion_mnist import FashionMNIST

    from ssl_lightning import Trainer
    from ssl_lightning.augment.image import ImagePolicy
    from ssl_lightning.encoders.timm import TimmEncoder
    from ssl_lightning.evaluation.probes.knn import KNNProbe
    from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
    from ssl_lightning.evaluation.report import Report
    from ssl_lightning.plugins.registry import Registry

    strength = {name: value for name, value in json.loads(policy).items() if name not in ("local", "local_size")}

    class RGB(FashionMNIST):
        """Fashion-MNIST in three channels."""

        channels = 3
        policy = ImagePolicy(**strength)

        def in_order(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, None].expand(-1, 3, -1, -1).contiguous()

    torch.manual_seed(0)
    method = Registry("ssl_lightning.methods")[name](
        TimmEncoder("resnet18", small_images=True), optimizer="sgd", **json.loads(settings)
    )
    trainer = Trainer(
        max_epochs=10,
        precision=precision,
        callbacks=[OnlineLinearProbe(False), KNNProbe(False), Report(False), Paced()],
    )
    trainer.fit(method, datamodule=RGB(root, download=False))


if __name__ == "__main__":
    _, root, method, case, precision, settings, policy = sys.argv
    {"same": same, "defaults": defaults}[case](root, method, precision, settings, policy)
