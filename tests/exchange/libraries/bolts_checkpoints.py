"""Run where lightning-bolts 0.7.0 is installed: writes checkpoints of its methods with random
weights, and the features of random images.

    python bolts_checkpoints.py FOLDER
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from pl_bolts.models.self_supervised import BYOL, CPC_v2, Moco_v2, SimCLR, SimSiam, SwAV  # noqa: E402
from pl_bolts.transforms.self_supervised import Patchify  # noqa: E402
from stirring import stirred  # noqa: E402

SIMCLR = {"gpus": 0, "num_samples": 64, "batch_size": 8, "dataset": "imagenet", "arch": "resnet18", "hidden_mlp": 512}
SWAV = {**SIMCLR, "num_prototypes": 16, "nodes": 1, "num_nodes": 1}
CIFAR = {"dataset": "cifar10", "first_conv": False, "maxpool1": False}
STL = {"dataset": "stl10", "maxpool1": False}
SIAMESE = {"base_encoder": "resnet18", "encoder_out_dim": 512, "projector_hidden_dim": 32, "projector_out_dim": 16}


def patches(x):
    cut = Patchify(patch_size=8, overlap_size=4)
    return torch.stack([cut(image) for image in x])


def grid_mean(model):
    return lambda x: model(patches(x)).flatten(2).mean(2)


CASES = {
    "simclr": (lambda: SimCLR(**SIMCLR), 64, lambda m: m),
    "simclr_resnet50": (lambda: SimCLR(**{**SIMCLR, "arch": "resnet50", "hidden_mlp": 2048}), 64, lambda m: m),
    "simclr_cifar": (lambda: SimCLR(**{**SIMCLR, **CIFAR}), 32, lambda m: m),
    "simclr_cifar_pool": (lambda: SimCLR(**{**SIMCLR, **CIFAR, "maxpool1": True}), 32, lambda m: m),
    "simclr_stl": (lambda: SimCLR(**{**SIMCLR, **STL}), 96, lambda m: m),
    "moco": (lambda: Moco_v2(num_negatives=64), 64, lambda m: without_fc(m.encoder_q)),
    "moco_mlp": (lambda: Moco_v2(num_negatives=64, use_mlp=True), 64, lambda m: without_fc(m.encoder_q)),
    "moco, key": (lambda: Moco_v2(num_negatives=64, use_mlp=True), 64, lambda m: without_fc(m.encoder_k)),
    "byol": (lambda: BYOL(**SIAMESE), 64, lambda m: m),
    "byol, target": (lambda: BYOL(**SIAMESE), 64, lambda m: m.target_network.encode),
    "simsiam": (lambda: SimSiam(**SIAMESE, predictor_hidden_dim=8), 64, lambda m: m),
    "swav": (lambda: SwAV(**SWAV), 64, lambda m: m),
    "swav_cifar": (lambda: SwAV(**{**SWAV, **CIFAR}), 32, lambda m: m),
    "cpc_resnet18": (lambda: CPC_v2(encoder_name="resnet18"), 32, grid_mean),
    "cpc": (lambda: CPC_v2(), 32, grid_mean),
}


def without_fc(network):
    network.fc = torch.nn.Identity()
    return network


def main(folder, names):
    for name in names or CASES:
        build, size, features_of = CASES[name]
        torch.manual_seed(0)
        model = stirred(build())
        trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / f"{name}.ckpt", weights_only=True)
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            torch.save({"images": x, "features": features_of(model)(x)}, folder / f"{name}.pt")


main(Path(sys.argv[1]), sys.argv[2:])
