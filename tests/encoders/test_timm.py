"""TimmEncoder: any timm model, and a readable refusal of what a model does not take."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch

from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.nn.patches import patch_for
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.types import View

VIT = "vit_tiny_patch16_224"
CHEAP = [
    ("resnet18", {"small_images": True}, 512),
    ("resnet18d", {"small_images": True}, 512),
    (VIT, {"image_size": 32, "patch_size": 4}, 192),
    ("convnext_atto", {"patch_size": 2, "drop_path_rate": 0.1}, 320),
    ("mobilenetv3_small_050", {}, 1024),  # num_features says 288: the head has a hidden layer of its own
    ("deit_tiny_distilled_patch16_224", {"image_size": 32, "patch_size": 8}, 192),
]


def images(channels: int = 3, size: int = 32) -> View:
    return View(torch.randn(2, channels, size, size))


@pytest.mark.by_default(4)
@pytest.mark.parametrize(("name", "options", "dim"), CHEAP, ids=[case[0] for case in CHEAP])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_length_that_dim_says(name: str, options: dict[str, object], dim: int, channels: int) -> None:
    encoder = TimmEncoder(name, channels=channels, **options).eval()
    with torch.no_grad():
        features = encoder(images(channels))
    assert encoder.dim == dim
    assert features.shape == (2, dim)


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_dim_is_right_in_every_family(family: str) -> None:
    names = timm.list_models(module=family)
    if not names:
        pytest.skip(f"{family} has no models of its own")
    with torch.device("meta"):
        encoder = TimmEncoder(names[0]).eval()
        channels, height, width = encoder.model.pretrained_cfg.get("input_size", (3, 224, 224))
        assert encoder(View(torch.empty(2, channels, height, width))).shape == (2, encoder.dim)


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_no_family_swallows_an_argument_that_it_does_not_know(family: str) -> None:
    """An unknown keyword is a TypeError in every family, which is what the refusals rest on."""
    for name in timm.list_models(module=family)[:1]:
        with torch.device("meta"), pytest.raises(TypeError, match="no_such_argument"):
            timm.create_model(name, num_classes=0, no_such_argument=1)


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "resnet26"])
def test_small_images_lose_no_resolution_in_the_stem(name: str) -> None:
    encoder = TimmEncoder(name, small_images=True)
    places = {}
    for module in ("conv1", "maxpool", "layer1", "layer4"):
        getattr(encoder.model, module).register_forward_hook(
            lambda _, __, out, module=module: places.update({module: out.shape[2]})
        )
    encoder(images(size=32))
    assert places == {"conv1": 32, "maxpool": 32, "layer1": 32, "layer4": 4}
    assert encoder.model.conv1.kernel_size == (3, 3)


def test_sizes_and_stochastic_depth_reach_the_model() -> None:
    encoder = TimmEncoder(VIT, image_size=32, patch_size=4, drop_path_rate=0.3)
    assert encoder.model.patch_embed.num_patches == 64
    assert encoder.model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "resnetv2_50", "regnetx_002"]
)
def test_small_images_are_refused_without_a_resnet_stem(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*small_images.*resnet18"):
        TimmEncoder(name, small_images=True)


REFUSED = [
    ("resnet18", "image_size", 32),
    ("resnet18", "patch_size", 4),
    ("convnext_atto", "image_size", 32),
    ("efficientnet_b0", "image_size", 32),
    ("mobilenetv3_small_050", "patch_size", 4),
    ("regnetx_002", "image_size", 32),
    ("poolformer_s12", "image_size", 32),  # its constructor has **kwargs
    ("mixer_s16_224", "patch_size", 4),  # its class takes the argument, its model function has fixed it
    ("vgg11", "drop_path_rate", 0.1),
]


@pytest.mark.parametrize(("name", "argument", "value"), REFUSED)
def test_what_a_family_does_not_take_is_refused_by_name(name: str, argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*{argument}={value}.*leave it out"):
        TimmEncoder(name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet_18", "resnet18"),
        ("vit_tny_patch16_224", VIT),
        ("resnet18.a1in1k", "resnet18.a1_in1k"),
        ("hf-hub:a/b", "list_models"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no model {name!r}.*{near}"):
        TimmEncoder(name)


def test_input_that_does_not_fit_names_both_sides() -> None:
    encoder = TimmEncoder("resnet18", small_images=True)
    with pytest.raises(ValueError, match=r"takes 3 channels, got images with 1: set channels=1"):
        encoder(images(channels=1))
    with pytest.raises(ValueError, match=r"images \[B, C, H, W\].*\[2, 7\]"):
        encoder(View(torch.zeros(2, 7)))
    with pytest.raises(ValueError, match=r"32x32 pixels, got 28x28: set its image_size=28"):
        TimmEncoder(VIT, image_size=32, patch_size=4)(images(size=28))
    with pytest.raises(ValueError, match=r"channels=0"):
        TimmEncoder("resnet18", channels=0)


def test_a_rebuilt_encoder_is_the_same_and_downloads_nothing() -> None:
    encoder = TimmEncoder(VIT, image_size=32, patch_size=4, channels=1)
    config = config_of(encoder)
    again = rebuild(config)
    again.load_state_dict(encoder.state_dict())
    view = images(channels=1)
    with torch.no_grad():
        assert torch.equal(again.eval()(view), encoder.eval()(view))
    config["init_args"]["pretrained"] = True
    assert rebuild(config).init_args == {**config["init_args"], "pretrained": False}


def test_names_without_weight_decay_are_parameters_of_this_module() -> None:
    encoder = TimmEncoder(VIT, image_size=32, patch_size=4)
    assert encoder.no_weight_decay() == {"model.pos_embed", "model.cls_token"}
    assert TimmEncoder("resnet18").no_weight_decay() == set()
    xcit = TimmEncoder("xcit_nano_12_p16_224")  # timm writes a pattern here: pos_embed.*
    assert {"model.cls_token"} < xcit.no_weight_decay() <= {name for name, _ in xcit.named_parameters()}


@pytest.mark.parametrize("channels", [1, 3])
def test_activations_are_channels_last(channels: int) -> None:
    encoder = TimmEncoder("resnet18", small_images=True, channels=channels)
    seen = []
    encoder.model.layer1.register_forward_hook(
        lambda _, __, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
    )
    encoder(images(channels))
    assert seen == [True]


@pytest.mark.slow
def test_timm_is_imported_only_by_who_builds_a_model() -> None:
    code = "import sys, ssl_lightning.encoders.timm, ssl_lightning.encoders.vit; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_vision_transformer_takes_local_views_where_asked() -> None:
    still, encoder = (
        TimmEncoder(VIT, image_size=32, patch_size=8, dynamic_image_size=dynamic).eval() for dynamic in (False, True)
    )
    still.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(encoder(full := images()), still(full)) and encoder(images(size=16)).shape == (2, 192)
    with pytest.raises(
        ValueError,
        match=r"got 16x16: set its image_size=16, or the data's; or, for local views.*dynamic_image_size=true",
    ):
        still(images(size=16))
    with pytest.raises(ValueError, match=r"got 40x40: set its image_size=40, or the data's\.$"):
        still(images(size=40))
    with pytest.raises(ValueError, match=r"patches of 8x8 pixels, which 12x12"):
        encoder(images(size=12))
    with pytest.raises(ValueError, match=r"resnet18.*dynamic_image_size=True.*leave it out"):
        TimmEncoder("resnet18", dynamic_image_size=True)


def test_a_size_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image_size=30, patch_size=16.*choose image_size 16 or 32"):
        TimmEncoder(VIT, image_size=30)


@pytest.mark.parametrize(("name", "has"), [(VIT, True), ("resnet18", False), ("convnext_atto", False)])
def test_the_patch_embedding_is_found_where_there_is_one(name: str, has: bool) -> None:
    encoder = TimmEncoder(name)
    assert encoder.patch_embedding is (encoder.model.patch_embed if has else None)


SUITED = [
    ({"name": "resnet18", "image_size": 32}, {}),  # takes any size
    ({"name": VIT, "image_size": 32}, {"image_size": 32, "patch_size": 4}),
    ({"name": VIT, "image_size": 224}, {"image_size": 224}),
    ({"name": VIT, "image_size": 224, "patch_size": 32}, {"image_size": 224, "patch_size": 32}),
    ({"name": "vit_small_patch8_224", "image_size": 64}, {"image_size": 64}),  # 8 patches a side
    (
        {"name": "vit_small_patch8_224", "image_size": 100},
        {"image_size": 100, "patch_size": 10},
    ),  # 8 does not divide it
    ({"name": "mixer_s16_224", "image_size": 32}, {"image_size": 32}),  # its patch is fixed
    ({"name": "no_such_model", "image_size": 32}, {}),  # which the constructor says
]


@pytest.mark.parametrize(
    ("given", "suited"), SUITED, ids=[f"{case[0]['name']}-{case[0]['image_size']}" for case in SUITED]
)
def test_size_and_patch_suit_the_images(given: dict[str, object], suited: dict[str, object]) -> None:
    assert TimmEncoder.suited_args({**given, "channels": 1}) == {"name": given["name"], "channels": 1, **suited}


def test_patches_cut_an_image_into_7_to_32_a_side() -> None:
    sizes = {16: 2, 28: 4, 30: 3, 32: 4, 64: 8, 96: 12, 128: 16, 224: 16, 384: 16, 97: 16}
    assert {size: patch_for(size) for size in sizes} == sizes


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_what_suits_small_images_builds_in_every_family(family: str) -> None:
    for name in timm.list_models(module=family)[:1]:
        arguments = TimmEncoder.suited_args({"name": name, "image_size": 64})
        with torch.device("meta"):
            encoder = TimmEncoder(**arguments).eval()
            if "image_size" in arguments:
                assert encoder(View(torch.empty(2, 3, 64, 64))).shape == (2, encoder.dim)
