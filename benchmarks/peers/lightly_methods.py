"""SimCLR, MoCo, BYOL and SwAV of lightly's modules in Lightning. Runs in lightly's environment.

Each follows lightly's examples/pytorch_lightning; where that is for another purpose, its
benchmarks: MoCo is symmetric as in docs/source/getting_started/benchmarks/cifar10_benchmark.py,
whose views without blur all have, and BYOL's momentum rises with every step as in
benchmarks/imagenet/resnet50/byol.py. Settings have the names of ssl_lightning's arguments.
"""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    MoCoProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.simclr_transform import SimCLRTransform
from lightly.transforms.swav_transform import SwaVTransform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn


class Method(pl.LightningModule):
    """What all have: a backbone that gives [S, dim], and the optimizer that it is told to take.

    Args:
        backbone: the network.
        dim: length of its features.
        settings: of the method.
        optimizer: makes it from the parameters; it may come with a schedule, as Lightning has it.
    """

    def __init__(self, backbone: nn.Module, dim: int, settings: dict[str, Any], optimizer: Any) -> None:
        super().__init__()
        self.backbone, self.dim, self.settings, self.optimizer = backbone, dim, settings, optimizer

    def configure_optimizers(self) -> Any:
        return self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x))


class SimCLR(Method):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.projection_head = SimCLRProjectionHead(self.dim, self.settings["hidden_dim"], self.settings["output_dim"])
        self.criterion = NTXentLoss(temperature=self.settings["temperature"])

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        (x0, x1), _, _ = batch
        return self.criterion(self.forward(x0), self.forward(x1))


class Momentum(Method):
    """With a slow copy of backbone and projection head."""

    def copy(self) -> None:
        self.backbone_momentum, self.projection_head_momentum = (
            copy.deepcopy(self.backbone),
            copy.deepcopy(self.projection_head),
        )
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def update(self, momentum: float) -> None:
        update_momentum(self.backbone, self.backbone_momentum, momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, momentum)

    @torch.no_grad()
    def forward_momentum(self, x: Tensor) -> Tensor:
        return self.projection_head_momentum(self.backbone_momentum(x))


class MoCo(Momentum):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.projection_head = MoCoProjectionHead(self.dim, self.settings["hidden_dim"], self.settings["output_dim"])
        bank = (self.settings["queue_length"], self.settings["output_dim"])
        self.criterion = NTXentLoss(temperature=self.settings["temperature"], memory_bank_size=bank)
        self.copy()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        self.update(self.settings["momentum"])
        (x0, x1), _, _ = batch
        loss = self.criterion(self.forward(x0), self.forward_momentum(x1))
        if not self.settings["symmetric"]:
            return loss
        return 0.5 * (loss + self.criterion(self.forward(x1), self.forward_momentum(x0)))


class BYOL(Momentum):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        hidden, output = self.settings["hidden_dim"], self.settings["output_dim"]
        self.projection_head, self.prediction_head = (
            BYOLProjectionHead(self.dim, hidden, output),
            BYOLPredictionHead(output, hidden, output),
        )
        self.criterion = NegativeCosineSimilarity()
        self.copy()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        self.update(
            cosine_schedule(
                self.trainer.global_step, int(self.trainer.estimated_stepping_batches), self.settings["momentum"], 1.0
            )
        )
        (x0, x1), _, _ = batch
        p0, p1 = (self.prediction_head(self.forward(x)) for x in (x0, x1))
        return 0.5 * (self.criterion(p0, self.forward_momentum(x1)) + self.criterion(p1, self.forward_momentum(x0)))


class SwAV(Method):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        output = self.settings["output_dim"]
        self.projection_head = SwaVProjectionHead(self.dim, self.settings["hidden_dim"], output)
        self.prototypes = SwaVPrototypes(output, self.settings["prototypes"], n_steps_frozen_prototypes=1)
        self.criterion = SwaVLoss(self.settings["temperature"], self.settings["iterations"], self.settings["epsilon"])

    def on_train_start(self) -> None:
        self.prototypes.n_steps_frozen_prototypes = round(
            self.settings["freeze_epochs"] * self.trainer.num_training_batches
        )

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        self.prototypes.normalize()
        views, _, _ = batch
        z = [nn.functional.normalize(self.forward(view), dim=1, p=2) for view in views]
        scores = [self.prototypes(each, step=self.trainer.global_step).float() for each in z]
        with torch.autocast(scores[0].device.type, enabled=False):
            return self.criterion(scores[:2], scores[2:])


METHODS = {"simclr": SimCLR, "moco": MoCo, "byol": BYOL, "swav": SwAV}


def transform(method: str, policy: dict[str, Any]) -> Any:
    """lightly's transform for the method, with these strengths, without blur unless told.

    Args:
        method: one of `METHODS`.
        policy: of ssl_lightning's image policy `crop_scale`, `jitter`, `grey_p`, `mean`, `std`;
            also `local` and `local_size`, number and side of SwAV's small crops, `local_crop_scale`
            and, for BYOL, `solarize_p`; `blur_p`, 0 where it is not there.
    """
    bright, contrast, saturation, hue = policy["jitter"]
    colour = {
        "cj_strength": 1.0, "cj_bright": bright, "cj_contrast": contrast, "cj_sat": saturation, "cj_hue": hue,
        "random_gray_scale": policy["grey_p"], "gaussian_blur": policy.get("blur_p", 0.0),
        "normalize": {"mean": policy["mean"], "std": policy["std"]},
    }  # fmt: skip
    (smallest, largest), size = policy["crop_scale"], 32
    assert largest == 1.0, "lightly's crops go up to the whole image"
    if method == "swav":
        (low, high), number = policy["local_crop_scale"], policy["local"]
        return SwaVTransform(
            crop_sizes=(size, policy["local_size"] or size), crop_counts=(2, number),
            crop_min_scales=(smallest, low), crop_max_scales=(1.0, high), **colour,
        )  # fmt: skip
    colour |= {"input_size": size, "min_scale": smallest}
    if method == "byol":
        return BYOLTransform(
            BYOLView1Transform(**colour), BYOLView2Transform(**colour, solarization_prob=policy["solarize_p"])
        )
    return SimCLRTransform(**colour)
