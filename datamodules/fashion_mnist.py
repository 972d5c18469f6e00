"""Fashion-MNIST, read by torchvision."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torchvision.datasets import FashionMNIST as Reader

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.datamodule import Split, SSLDataModule
from ssl_lightning.sources import InMemory, Source, Subset, stratified_split
from ssl_lightning.types import Strength


class FashionMNIST(SSLDataModule):
    """Fashion-MNIST: 70,000 grey images of clothes at 28x28, 10 classes, downloaded once.

    60,000 train and 10,000 test samples; the live probes watch on 5,000 of the 60,000. Source: Xiao et al. (2017),
    arXiv 1708.07747.

    Args:
        root: the folder that holds, or will hold, `FashionMNIST/raw`.
        download: whether to download what is not there.
        samples: pretrain on a stratified part of this many training samples (fixed by seed 0); None takes all.
        image_size: side of a view in pixels.
    """

    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {
        "Encoder": {"class_path": "timm", "init_args": {"name": "resnet18", "small_images": True, "channels": 1}}
    }
    default_epochs = 20
    serves_local = True
    class_names = tuple(Reader.classes)

    def __init__(
        self,
        root: str = "data",
        *,
        download: bool = True,
        samples: int | None = None,
        image_size: int = 32,
        batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if samples is not None and not 0 < samples <= 60000:
            raise ValueError(f"samples={samples} does not fit; Fashion-MNIST has 60,000 training samples.")
        self.root, self.download, self.samples, self.image_size = root, download, samples, image_size
        self.policy = ImagePolicy(crop_scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), grey_p=0.0, mean=(0.286,), std=(0.353,))

    def prepare_data(self) -> None:
        super().prepare_data()
        if self.download:
            Reader(self.root, train=True, download=True)
            Reader(self.root, train=False, download=True)

    def source(self, split: Split) -> Source | None:
        if split == "val":
            return None
        try:
            reader = Reader(self.root, train=split == "train", download=False)
        except RuntimeError as error:
            raise ValueError(
                f"There is no Fashion-MNIST in root={self.root!r}: expected {self.root}/FashionMNIST/raw. Set --data.root to the "
                "folder that holds it, or --data.download true."
            ) from error
        source: Source = InMemory(reader.data[:, None], reader.targets)
        if split == "train" and self.samples is not None and self.samples < len(source):
            source = Subset(source, stratified_split(reader.targets, self.samples)[1])
        return source

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        return self.policy.build(strength, local_size or self.image_size, local=local_size is not None)
