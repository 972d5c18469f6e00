"""The public image sets that torchvision reads: MNIST, CIFAR-10, CIFAR-100, STL-10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision.datasets import CIFAR10 as CIFAR10Reader
from torchvision.datasets import CIFAR100 as CIFAR100Reader
from torchvision.datasets import MNIST as MNISTReader
from torchvision.datasets import STL10 as STL10Reader

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.data.datamodule import Split
from ssl_lightning.data.images.datamodule import ImageDataModule
from ssl_lightning.data.ledger import LeftOut
from ssl_lightning.data.sources import InMemory, Source, Subset, stratified_split


class PublicImages(ImageDataModule):
    """Images of one size that a torchvision data set reads into memory.

    Args:
        root: the folder with the set's files, as torchvision lays them out, or to download into.
        download: whether to download missing files.
        samples: pretrain on a stratified part of this many training samples (fixed by seed 0);
            None: all samples.
    """

    incidental = ImageDataModule.incidental | {"root", "download"}
    reader: ClassVar[Any]
    """torchvision's class."""
    title: ClassVar[str]
    expected: ClassVar[str]
    """The path in `root` of the set's files, for messages."""

    def __init__(self, root: str = "data", *, download: bool = True, samples: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if samples is not None and samples < 2:
            raise ValueError(f"samples={samples} is too few; give 2 or more, or None for all.")
        self.root, self.download, self.samples = root, download, samples

    def read(self, split: str, download: bool = False) -> Any:
        """Returns torchvision's data set of a split."""
        return self.reader(self.root, train=split == "train", download=download)

    def prepare_data(self) -> None:
        """Downloads missing files.

        Raises:
            ValueError: they cannot be downloaded.
        """
        super().prepare_data()
        if not self.download:
            return
        try:
            self.read("train", download=True)  # every reader fetches all splits at once
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"There is no {self.title} in root={self.root!r}, and it cannot be downloaded into it"
                f" ({type(error).__name__}: {error}). Put the files into {self.root}/{self.expected}, or set"
                " --data.root to the folder that contains them."
            ) from error

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        return self.part(self.load(split)) if split == "train" else self.load(split)

    def part(self, source: Source) -> Source:
        """Returns the samples to pretrain on."""
        if self.samples is None or self.samples == len(source):
            return source
        if self.samples > len(source):
            raise ValueError(
                f"samples={self.samples} is too many; {self.title} has {len(source):,} samples to pretrain on."
            )
        labels = torch.zeros(len(source)) if source.labels is None else source.labels
        rest, chosen = stratified_split(labels, self.samples)
        part = Subset(source, chosen)
        part.left_out = [
            LeftOut("are beyond --data.samples", len(rest), source.name(int(rest[0])), "--data.samples null")
        ]
        return part

    def load(self, split: str) -> InMemory:
        """Loads the images of a split, uint8 [N, C, H, W].

        Raises:
            ValueError: they are not in `root`.
        """
        try:
            reader = self.read(split)
        except (RuntimeError, FileNotFoundError) as error:
            raise ValueError(
                f"There is no {self.title} in root={self.root!r}: expected {self.root}/{self.expected}. Set --data.root"
                " to the folder that contains it, or --data.download true."
            ) from error
        images = torch.as_tensor(reader.data)
        labels = torch.as_tensor(np.asarray(reader.labels if hasattr(reader, "labels") else reader.targets))
        return InMemory(self.in_order(images), None if bool((labels < 0).all()) else labels)

    def in_order(self, images: torch.Tensor) -> torch.Tensor:
        """Returns torchvision's array as [N, C, H, W]."""
        return images


class MNIST(PublicImages):
    """MNIST: 70,000 grey images of handwritten digits at 28x28, 10 classes, downloaded once.

    60,000 train and 10,000 test samples; the live probes are judged on 5,000 of the 60,000. Views
    are cropped, rotated and sheared a little and never flipped, so that a digit stays a digit.
    Source: LeCun et al. (1998), doi 10.1109/5.726791.
    """

    reader = MNISTReader
    title, expected = "MNIST", "MNIST/raw"
    channels = 1
    default_epochs = 20
    class_names = tuple("0123456789")
    policy = ImagePolicy(
        crop_scale=(0.5, 1.0), flip=0.0, rotation=12.0, shear=10.0, jitter=(0.4, 0.4, 0.0, 0.0),
        grey_p=0.0, solarize_p=0.0, mean=(0.131,), std=(0.308,),
    )  # fmt: skip

    def in_order(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, None]


class CIFAR10(PublicImages):
    """CIFAR-10: 60,000 colour images of 32x32, 10 classes, downloaded once.

    50,000 train and 10,000 test samples; the live probes are judged on 5,000 of the 50,000. Source:
    Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
    """

    reader = CIFAR10Reader
    title, expected = "CIFAR-10", "cifar-10-batches-py"
    default_epochs = 200
    class_names: Sequence[str] | None = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    policy = ImagePolicy(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))

    def in_order(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 3, 1, 2).contiguous()


class CIFAR100(CIFAR10):
    """CIFAR-100: 60,000 colour images of 32x32, 100 classes, downloaded once.

    50,000 train and 10,000 test samples; the live probes are judged on 5,000 of the 50,000. Source:
    Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
    """

    reader = CIFAR100Reader
    title, expected = "CIFAR-100", "cifar-100-python"
    class_names: Sequence[str] | None = None
    policy = ImagePolicy(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))


class STL10(PublicImages):
    """STL-10: 113,000 colour images of 96x96, 10 classes, meant for learning from few labels;
    downloaded once (2.6 GB).

    Pretrains on the 100,000 unlabelled images (2.8 GB of memory); the probes learn from the 5,000
    training images and are judged on 714 of them during the run, and on the 8,000 test images at
    its end. Source: Coates et al. (2011), AISTATS.
    """

    reader = STL10Reader
    title, expected = "STL-10", "stl10_binary"
    default_epochs = 100
    class_names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    policy = ImagePolicy(mean=(0.4467, 0.4398, 0.4066), std=(0.2603, 0.2566, 0.2713))

    def __init__(self, root: str = "data", *, image_size: int = 64, **kwargs: Any) -> None:
        super().__init__(root, image_size=image_size, **kwargs)

    def read(self, split: str, download: bool = False) -> Any:
        return self.reader(self.root, split=split, download=download)

    def source(self, split: Split) -> Source | None:
        return None if split == "val" else self.load(split)

    def pretraining_source(self) -> Source:
        return self.part(self.load("unlabeled"))
