"""A network of another library, imported, computes the features that it computes there, to 1e-5 of
their scale.

timm, torchvision, transformers and lightly are installed, so theirs are the models. The authors'
code of DINO, MAE, MoCo and VISSL is no package: what stands here has their names of keys, on timm's
vision transformers, from which the authors' are derived, and torchvision's ResNets. lightning-bolts
and solo-learn: `test_libraries.py`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from exchange.libraries.stirring import stirred
from lightly.models import ResNetGenerator
from lightly.models.modules import (
    BYOLProjectionHead,
    DINOProjectionHead,
    MAEDecoderTIMM,
    MaskedVisionTransformerTIMM,
    MaskedVisionTransformerTorchvision,
    SimCLRProjectionHead,
)
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from ssl_lightning import load_encoder
from ssl_lightning.encoders.resnet import ResNetEncoder
from ssl_lightning.exchange.foreign.imported_file import import_encoder
from ssl_lightning.exchange.foreign.importing import Choice, Imported, read_foreign
from ssl_lightning.exchange.foreign.shapes import Wanted
from ssl_lightning.types import View

TOLERANCE = 1e-5
VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 0}
OF_TRANSFORMERS: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 384,
    "image_size": 32,
    "patch_size": 8,
}
Features = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def resnet(block: Any = BasicBlock, **arguments: Any) -> ResNet:
    """A short ResNet of torchvision."""
    return ResNet(block, [1, 1, 1, 1], **arguments)


def headless(model: ResNet) -> ResNet:
    model = copy.deepcopy(model)
    model.fc = nn.Identity()
    return model


def imported(contents: Any, folder: Path, **arguments: Any) -> Imported:
    """What is imported, as it is rebuilt from the written file."""
    torch.save(contents, folder / "file.pth")
    written = folder / str(len([*folder.iterdir()]))
    result = import_encoder(folder / "file.pth", written, Choice(**arguments))
    return result._replace(encoder=load_encoder(written))


@torch.no_grad()
def difference(imported: Imported, features: Features, size: int | None = None) -> float:
    """The largest difference of the features of random images, relative to their scale."""
    size = size or imported.images["image_size"]
    x = torch.randn(2, imported.images["channels"], size, size)
    ours, theirs = imported.encoder(View(x)), features(x).flatten(1)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


# timm and torchvision.


@pytest.mark.parametrize(
    "build",
    [
        torchvision.models.resnet18,
        resnet,
        lambda: resnet(Bottleneck),
        pytest.param(lambda: resnet(Bottleneck, width_per_group=128), marks=pytest.mark.slow),
        lambda: resnet(Bottleneck, groups=32, width_per_group=4),
    ],
    ids=["resnet18", "basic", "bottleneck", "wide", "groups"],
)
def test_a_resnet_of_torchvision(build: Callable[[], ResNet], tmp_path: Path) -> None:
    model = stirred(build())
    result = imported({"state_dict": model.state_dict()}, tmp_path)
    assert difference(result, headless(model), 64) < TOLERANCE
    assert result.facts["left behind"] == "fc (2)"


@pytest.mark.slow
def test_a_wide_stem_of_other_channels(tmp_path: Path) -> None:
    """A ResNet of double width, as SimCLR's and SwAV's "w2", of images with two channels."""
    ours = stirred(ResNetEncoder("bottleneck", [1, 1, 1, 1], width=128, channels=2))
    result = imported(ours.model.state_dict(), tmp_path)
    assert result.encoder.dim == 4096 and difference(result, lambda x: ours(View(x)), 64) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_small_patch14_dinov2", {"init_values": 0.5}),
        ("vit_small_patch14_reg4_dinov2", {"init_values": 0.5}),
        ("vit_base_patch16_gap_224", {}),
    ],
)
def test_a_vision_transformer_of_timm(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = stirred(timm.create_model(name, **{**VIT, **arguments}))
    assert difference(imported(model.state_dict(), tmp_path), model) < TOLERANCE


def test_any_model_of_timm_by_its_name(tmp_path: Path) -> None:
    model = stirred(timm.create_model("test_convnext", num_classes=5))
    result = imported(model.state_dict(), tmp_path, format="timm", wanted=Wanted("test_convnext"))
    model.reset_classifier(0)
    assert difference(result, model, 64) < TOLERANCE


def test_a_vision_transformer_of_torchvision(tmp_path: Path) -> None:
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 512)
    result = imported(stirred(model).state_dict(), tmp_path)
    model.heads = nn.Identity()
    assert difference(result, model) < TOLERANCE


# transformers.


@pytest.mark.parametrize(
    ("cls", "config", "part"),
    [
        (ViTForImageClassification, ViTConfig(**OF_TRANSFORMERS), "vit"),
        (Dinov2Model, Dinov2Config(**OF_TRANSFORMERS, layerscale_value=0.5), ""),
        (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**OF_TRANSFORMERS, layerscale_value=0.5), ""),
        (
            ViTMAEForPreTraining,
            ViTMAEConfig(
                **OF_TRANSFORMERS,
                mask_ratio=0.0,
                decoder_hidden_size=32,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=2,
            ),
            "vit",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_vision_transformer_of_transformers(cls: Any, config: Any, part: str, tmp_path: Path) -> None:
    """Three heads where the width says two, and norms with an epsilon of their own: both stand in
    `config.json`."""
    config.layer_norm_eps = 1e-3
    model = stirred(cls(config))
    model.save_pretrained(tmp_path)
    result = read_foreign(tmp_path / "model.safetensors")
    inner = getattr(model, part) if part else model
    assert difference(result, lambda x: inner(x).last_hidden_state[:, 0]) < TOLERANCE


def test_a_resnet_of_transformers_with_its_image_processor(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    model = stirred(ResNetForImageClassification(config))
    model.save_pretrained(tmp_path)
    text = '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "size": {"shortest_edge": 64}}'
    (tmp_path / "preprocessor_config.json").write_text(text)
    result = read_foreign(tmp_path / "model.safetensors")
    assert difference(result, lambda x: model.resnet(x).pooler_output) < TOLERANCE
    assert result.images == {
        "image_size": 64,
        "channels": 3,
        "augmentation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]},
    }


# lightly: as its examples and benchmarks build them.


class Lightly(nn.Module):
    """A method of lightly: parts by name."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def children(model: nn.Module, *more: nn.Module) -> nn.Sequential:
    """What lightly's examples make of a ResNet."""
    return nn.Sequential(*list(model.children())[:-1], *more)


def test_lightly_simclr_on_the_children_of_a_resnet(tmp_path: Path) -> None:
    method = stirred(Lightly(backbone=children(resnet()), projection_head=SimCLRProjectionHead(512, 512, 128)))
    result = imported({"state_dict": method.state_dict(), "pytorch-lightning_version": "2.6.6"}, tmp_path)
    assert difference(result, method.backbone, 64) < TOLERANCE


def test_lightly_byol_on_a_whole_resnet_keeps_the_backbone_or_the_one_that_is_named(tmp_path: Path) -> None:
    backbone = headless(resnet())
    method = Lightly(
        backbone=backbone,
        projection_head=BYOLProjectionHead(512, 64, 32),
        backbone_momentum=copy.deepcopy(backbone),
        projection_head_momentum=BYOLProjectionHead(512, 64, 32),
    )
    contents = {"state_dict": stirred(method).state_dict()}
    assert difference(imported(contents, tmp_path), method.backbone, 64) < TOLERANCE
    chosen = imported(contents, tmp_path, network="backbone_momentum")
    assert difference(chosen, method.backbone_momentum, 64) < TOLERANCE
    assert difference(chosen, method.backbone, 64) > 100 * TOLERANCE


def test_lightly_on_its_own_resnet_lacks_the_first_relu(tmp_path: Path) -> None:
    """Its benchmarks put the ResNet's children into an `nn.Sequential`: a function is lost."""
    backbone = children(ResNetGenerator("resnet-9"), nn.AdaptiveAvgPool2d(1))
    method = stirred(Lightly(backbone=backbone, projection_head=SimCLRProjectionHead(512, 512, 128)))
    result = imported({"state_dict": method.state_dict()}, tmp_path)
    assert difference(result, method.backbone) < TOLERANCE
    assert "no ReLU" in result.facts["assumed"]


@pytest.mark.parametrize("masked", [MaskedVisionTransformerTIMM, MaskedVisionTransformerTorchvision])
def test_lightly_mae(masked: Any, tmp_path: Path) -> None:
    of_timm = masked is MaskedVisionTransformerTIMM
    vit = VisionTransformer(**VIT) if of_timm else torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 512)
    decoder = MAEDecoderTIMM(num_patches=16, patch_size=8, embed_dim=128, decoder_embed_dim=32, decoder_depth=1)
    method = stirred(Lightly(backbone=masked(vit=vit), decoder=decoder))
    result = imported({"state_dict": method.state_dict()}, tmp_path)
    assert difference(result, lambda x: method.backbone.encode(x)[:, 0]) < TOLERANCE


def test_lightly_dino_keeps_the_teacher(tmp_path: Path) -> None:
    backbone = VisionTransformer(**VIT)
    method = stirred(
        Lightly(
            student_backbone=backbone,
            student_head=DINOProjectionHead(128, 64, 32, 16),
            teacher_backbone=copy.deepcopy(backbone),
            teacher_head=DINOProjectionHead(128, 64, 32, 16),
        )
    )
    result = imported({"state_dict": method.state_dict()}, tmp_path)
    assert difference(result, method.teacher_backbone) < TOLERANCE


# The authors' own code, by its names.


def under(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def test_moco_v2_keeps_the_query_encoder(tmp_path: Path) -> None:
    query, key = stirred(resnet()), stirred(resnet())
    for model in (query, key):
        model.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))
    queue = {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    state = {**under("module.encoder_q.", query), **under("module.encoder_k.", key), **queue}
    contents = {"epoch": 1, "arch": "resnet50", "state_dict": state, "optimizer": {}}
    assert difference(imported(contents, tmp_path), headless(query), 64) < TOLERANCE
    assert difference(imported(contents, tmp_path, network="key"), headless(key), 64) < TOLERANCE


def test_a_file_from_before_torch_1_6(tmp_path: Path) -> None:
    query = stirred(resnet())
    contents = {"state_dict": under("module.encoder_q.", query), "args": argparse.Namespace(lr=0.03)}
    torch.save(contents, tmp_path / "file.pth.tar", _use_new_zipfile_serialization=False)
    result = read_foreign(tmp_path / "file.pth.tar")
    assert difference(result, headless(query), 64) < TOLERANCE
    assert result.facts["not read"] == "argparse.Namespace"


def test_moco_v3_has_12_heads_in_its_small_transformer(tmp_path: Path) -> None:
    """moco-v3, `vits.py`: `vit_small(embed_dim=384, num_heads=12)`, where others have 6."""
    base = stirred(VisionTransformer(**{**VIT, "embed_dim": 384, "num_heads": 12, "depth": 1}))
    head = nn.Sequential(nn.Linear(384, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32, bias=False))
    state = {
        **under("module.base_encoder.", base),
        **under("module.base_encoder.head.", head),
        **under("module.momentum_encoder.", stirred(copy.deepcopy(base))),
        **under("module.momentum_encoder.head.", head),
        **under("module.predictor.", head),
    }
    assert difference(imported({"state_dict": state}, tmp_path), base) < TOLERANCE


def test_dino_keeps_the_teacher(tmp_path: Path) -> None:
    """main_dino.py: the student is wrapped (`module.`), the teacher may be."""
    student, teacher = stirred(VisionTransformer(**VIT)), stirred(VisionTransformer(**VIT))
    head = nn.Linear(128, 8)
    contents = {
        "student": {**under("module.backbone.", student), **under("module.head.", head)},
        "teacher": {**under("backbone.", teacher), **under("head.", head)},
        "optimizer": {},
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    assert difference(imported(contents, tmp_path), teacher) < TOLERANCE
    assert difference(imported(contents, tmp_path, network="student"), student) < TOLERANCE


def test_dinov2_with_registers_and_blocks_in_chunks(tmp_path: Path) -> None:
    """Its published backbones, and its training's, whose blocks lie in chunks."""
    model = stirred(timm.create_model("vit_small_patch14_reg4_dinov2", **VIT, init_values=0.5))
    state = dict(model.state_dict())
    first = torch.randn(1, 1, 128)
    published = {
        **state,
        "cls_token": state["cls_token"] - first,
        "pos_embed": torch.cat([first, state["pos_embed"]], dim=1),
        "register_tokens": state["reg_token"],
        "mask_token": torch.zeros(1, 128),
    }
    del published["reg_token"]
    result = imported(published, tmp_path)
    assert result.facts["origin"].startswith("dino") and difference(result, model) < TOLERANCE
    chunked = {f"backbone.{name.replace('blocks.', 'blocks.0.')}": tensor for name, tensor in published.items()}
    assert difference(imported({"teacher": chunked}, tmp_path), model) < TOLERANCE


def test_mae_leaves_the_decoder_behind(tmp_path: Path) -> None:
    model = stirred(VisionTransformer(**VIT))
    decoder = {"mask_token": torch.zeros(1, 1, 32), **under("decoder_embed.", nn.Linear(128, 32))}
    contents = {"model": {**model.state_dict(), **decoder}, "epoch": 1, "args": argparse.Namespace(model="mae")}
    result = imported(contents, tmp_path)
    assert result.facts["origin"].startswith("mae") and difference(result, model) < TOLERANCE
    mean = imported(contents, tmp_path, wanted=Wanted(pooling="mean"))
    assert difference(mean, lambda x: model.forward_features(x)[:, 1:].mean(1)) < TOLERANCE
    alone = imported({"model": model.state_dict()}, tmp_path, format="mae")
    assert difference(alone, model) < TOLERANCE


def test_vissl_trunk(tmp_path: Path) -> None:
    model = stirred(headless(resnet()))
    heads = {"0.clf.0.weight": torch.zeros(8, 512)}
    trunk = under("_feature_blocks.", model)
    contents = {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": heads}}}, "phase_idx": 9}
    assert difference(imported(contents, tmp_path), model, 64) < TOLERANCE
