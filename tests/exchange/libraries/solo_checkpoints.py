"""Run where solo-learn 1.0.2 is installed: writes checkpoints of its methods with random weights,
and the features of random images.

    python solo_checkpoints.py FOLDER
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from solo.methods import METHODS  # noqa: E402
from stirring import stirred  # noqa: E402

BASE = {
    "num_classes": 10,
    "max_epochs": 2,
    "batch_size": 8,
    "optimizer": "sgd",
    "lars": False,
    "lr": 0.1,
    "weight_decay": 0.0,
    "classifier_lr": 0.1,
    "exclude_bias_n_norm": False,
    "accumulate_grad_batches": 1,
    "extra_optimizer_args": {},
    "scheduler": "none",
    "min_lr": 0.0,
    "warmup_start_lr": 0.0,
    "warmup_epochs": 0,
    "num_large_crops": 2,
    "num_small_crops": 0,
    "proj_output_dim": 16,
    "proj_hidden_dim": 32,
    "temperature": 0.1,
}
MOMENTUM = {"base_tau_momentum": 0.99, "final_tau_momentum": 1.0, "momentum_classifier": False}
RESNET, CIFAR = {"encoder": "resnet18", "backbone_args": {}}, {"encoder": "resnet18", "backbone_args": {"cifar": True}}
VIT = {"encoder": "vit_tiny", "backbone_args": {"patch_size": 8, "img_size": 32}}
SWAV = {"num_prototypes": 8, "sk_iters": 3, "sk_epsilon": 0.05, "queue_size": 16, "epoch_queue_starts": 1}
SWAV |= {"freeze_prototypes_epochs": 1}
DINO = {"num_prototypes": 8, "clip_grad": 0, "freeze_last_layer": 0, "norm_last_layer": True, "use_bn_in_head": False}
DINO |= {"student_temperature": 0.1, "teacher_temperature": 0.07, "warmup_teacher_temperature": 0.04}
DINO |= {"warmup_teacher_temperature_epochs": 0}

CASES = {
    "simclr": ("simclr", {**RESNET}, 64),
    "simclr_cifar": ("simclr", {**CIFAR}, 32),
    "simclr_vit": ("simclr", {**VIT}, 32),
    "byol": ("byol", {**RESNET, **MOMENTUM, "pred_hidden_dim": 32}, 64),
    "byol_cifar, momentum": ("byol", {**CIFAR, **MOMENTUM, "pred_hidden_dim": 32}, 32),
    "mocov2plus": ("mocov2plus", {**CIFAR, **MOMENTUM, "queue_size": 64}, 32),
    "swav": ("swav", {**CIFAR, **SWAV}, 32),
    "dino_vit": ("dino", {**VIT, **MOMENTUM, **DINO}, 32),
    "dino_vit, momentum": ("dino", {**VIT, **MOMENTUM, **DINO}, 32),
    "simsiam": ("simsiam", {**CIFAR, "pred_hidden_dim": 32}, 32),
}


def main(folder, names):
    for name in names or CASES:
        method, arguments, size = CASES[name]
        torch.manual_seed(0)
        model = stirred(METHODS[method](**{**BASE, **arguments}))
        trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / f"{name}.ckpt", weights_only=True)
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            features = model.momentum_encoder(x) if name.endswith("momentum") else model(x)["feats"]
        torch.save({"images": x, "features": features}, folder / f"{name}.pt")


main(Path(sys.argv[1]), sys.argv[2:])
