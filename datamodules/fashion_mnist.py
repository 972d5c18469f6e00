"""Fashion-MNIST, read by torchvision."""

from __future__ import annotations

from ssl_lightning.datamodules.public import MNIST
from torchvision.datasets import FashionMNIST as Reader

from ssl_lightning.augment.image import ImagePolicy


class FashionMNIST(MNIST):
    """Fashion-MNIST: 70,000 grey images of clothes at 28x28, 10 classes, downloaded once.

    60,000 train and 10,000 test samples; the live probes are judged on 5,000 of the 60,000. Source:
    Xiao et al. (2017), arXiv 1708.07747.
    """

    reader = Reader
    title, expected = "Fashion-MNIST", "FashionMNIST/raw"
    class_names = tuple(Reader.classes)
    policy = ImagePolicy(crop_scale=(0.3, 1.0), jitter=(0.8, 0.8, 0.0, 0.0), grey_p=0.0, mean=(0.286,), std=(0.353,))
