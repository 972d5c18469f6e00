"""MAE is transformers' ViTMAE to the last gradient, sees what its keys leave visible and nothing
else, and shows what it paints."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import Run, assert_same, finished, kill
from ssl_lightning.methods.mae import MAE
from torch import Tensor
from torch.testing import assert_close
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.nn.masks.tokens import random_masking, take
from ssl_lightning.types import Batch, View


@cache
def encoder_of(name: str, size: int) -> ViTEncoder:
    torch.manual_seed(0)
    return ViTEncoder(name, image_size=size, patch_size=4, dim=24, depth=2, heads=3)


def method(name: str = "vit_tiny_patch16_224", size: int = 16, **changes: Any) -> MAE:
    encoder = encoder_of(name, size)  # built at the first call: not from the seed below
    torch.manual_seed(0)
    return MAE(
        deepcopy(encoder),
        **{"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 4, "warmup_epochs": 0, **changes},
    )


def batch_of(samples: int = 5, size: int = 16) -> Batch:
    x = torch.randn(samples, 3, size, size, generator=torch.Generator().manual_seed(samples))
    index = torch.arange(samples)
    return {"views": [View(x)], "index": index, "key": sample_keys(0, 0, index)}


# Against transformers.


def blocks(
    ours: Any, theirs: Any, qkv: str, projection: str, first: str, second: str
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    for mine, other in zip(ours, theirs, strict=True):
        attention = other.attention
        names = {
            qkv: [attention.q_proj, attention.k_proj, attention.v_proj],
            projection: [attention.o_proj],
            first: [other.mlp.fc1],
            second: [other.mlp.fc2],
            "norm1": [other.layernorm_before],
            "norm2": [other.layernorm_after],
        }
        for name, modules in names.items():
            for part in ("weight", "bias"):
                yield getattr(mine.get_submodule(name), part), [getattr(module, part) for module in modules]


def pairs(ours: MAE, theirs: Any) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Each parameter of ours, and those of transformers' model that it consists of."""
    model: Any = ours.encoder.model  # type: ignore[attr-defined]
    embeddings, decoder = theirs.vit.embeddings, theirs.decoder
    yield model.cls_token, [embeddings.cls_token]
    yield ours.mask_token, [decoder.mask_token]
    for mine, other in (
        (model.patch_embed.proj, embeddings.patch_embeddings.projection),
        (model.norm, theirs.vit.layernorm),
        (ours.embed, decoder.decoder_embed),
        (ours.decoder.norm, decoder.decoder_norm),
        (ours.paint, decoder.decoder_pred),
    ):
        yield mine.weight, [other.weight]
        yield mine.bias, [other.bias]
    yield from blocks(model.blocks, theirs.vit.layers, "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    yield from blocks(ours.decoder.blocks, decoder.decoder_layers, "qkv", "projection", "mlp.0", "mlp.2")


@pytest.mark.parametrize(("normalise_target", "ratio"), [(True, 0.75), (False, 0.5)])
def test_loss_and_gradient_are_those_of_transformers(normalise_target: bool, ratio: float) -> None:
    """Equal weights, and its noise so that it hides what our keys hide."""
    ours = method(normalise_target=normalise_target, mask_ratio=ratio).double()
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=96,
            layer_norm_eps=1e-6,
            image_size=16,
            patch_size=4,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=64,
            mask_ratio=ratio,
            norm_pix_loss=normalise_target,
        )
    ).double()
    theirs.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    # transformers 5.23 leaves all positions at zero where no weights are loaded
    theirs.vit.embeddings.initialize_weights()
    theirs.decoder.initialize_weights(num_patches=16)
    learned = [parameter for parameter in ours.parameters() if parameter.requires_grad]
    assert {id(mine) for mine, _ in pairs(ours, theirs)} == {id(parameter) for parameter in learned}, (
        "every parameter is compared"
    )
    with torch.no_grad():
        for mine, others in pairs(ours, theirs):
            for other in others:
                other.normal_(std=0.2)
            mine.copy_(torch.cat(others).view_as(mine))
    batch = batch_of()
    x = batch["views"][0].x.double()
    noise = (
        torch.cat(random_masking(batch["key"], 16, ratio), dim=1).argsort(dim=1).double()
    )  # the place of each token in our order
    loss = ours.step({**batch, "views": [View(x)]})["loss"]
    expected = theirs(x, noise=noise)
    assert int(expected.mask[0].sum()) == 16 * ratio
    assert_close(loss.double(), expected.loss, rtol=1e-6, atol=0)
    loss.backward()
    expected.loss.backward()
    for mine, others in pairs(ours, theirs):
        gradient = torch.cat([other.grad for other in others if other.grad is not None]).view_as(mine)
        assert mine.grad is not None
        assert_close(mine.grad, gradient, rtol=1e-5, atol=1e-6 * float(gradient.abs().max()))


# What goes where.


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_base_patch14_reg4_dinov2", "vit_base_patch16_siglip_gap_224"]
)
def test_the_encoder_mixes_the_prefix_and_the_visible_tokens_alone(name: str) -> None:
    """A class token, one with four registers, none: always visible, and without a position in the
    decoder."""
    model, batch = method(name), batch_of()
    given: list[Tensor] = []
    model.encoder.model.blocks[0].register_forward_pre_hook(lambda module, args: given.append(args[0]))  # type: ignore[attr-defined]
    model.decoder.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    model.embed.register_forward_hook(lambda module, args, out: given.append(out))
    prefix = model.encoder.prefix
    assert prefix == {"vit_tiny_patch16_224": 1, "vit_base_patch14_reg4_dinov2": 5}.get(name, 0)
    model.step(batch)
    mixed, embedded, decoded = given
    visible, _ = random_masking(batch["key"], 16, 0.75)
    tokens = model.encoder.tokenize(batch["views"][0]).x
    assert mixed.shape == (5, prefix + 4, 24) and decoded.shape == (5, prefix + 16, 16)
    assert_close(mixed, torch.cat([tokens[:, :prefix], take(tokens[:, prefix:], visible)], dim=1))
    assert torch.equal(decoded[:, :prefix], embedded[:, :prefix])


def test_what_is_painted_does_not_depend_on_what_is_hidden() -> None:
    model, batch = method(), batch_of()
    (view,), key = batch["views"], batch["key"]
    painted, hidden = model.reconstruct(view, key)
    visible, _ = random_masking(key, 16, 0.75)
    content = model.encoder.content(view)
    other = content.scatter(1, hidden[:, :, None].expand(-1, -1, 48), 7.0)
    assert_close(model.reconstruct(View(model.encoder.restore(other, view)), key)[0], painted)
    seen = content.scatter(1, visible[:, :, None].expand(-1, -1, 48), 7.0)
    assert (model.reconstruct(View(model.encoder.restore(seen, view)), key)[0] - painted).abs().max() > 0.01


def test_what_is_shown_as_visible_is_what_the_step_sees() -> None:
    model, batch = method(), batch_of()
    shown = model.corrupted(batch)["visible"]

    def embeddings(hidden: float, seen: float) -> Tensor:
        x = torch.where(shown.isnan(), hidden, batch["views"][0].x + seen)
        return model.step({**batch, "views": [View(x)]})["embeddings"]

    assert shown.isnan().float().mean() == 0.75
    assert_close(embeddings(7.0, 0.0), embeddings(-3.0, 0.0))
    assert (embeddings(7.0, 0.5) - embeddings(7.0, 0.0)).abs().max() > 1e-3


def test_the_skill_of_a_decoder_that_paints_nothing_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    for normalised in (True, False):
        model, batch = method(normalise_target=normalised), batch_of()
        painted, hidden = model.reconstruct(batch["views"][0], batch["key"])
        monkeypatch.setattr(model, "reconstruct", lambda *_, hidden=hidden, nothing=0 * painted: (nothing, hidden))
        step = model.step(batch)
        assert step["logs"]["skill"] == 0 and step["loss"] > 0.5


def test_the_loss_is_of_hidden_patches_alone() -> None:
    model, batch = method(normalise_target=False), batch_of()
    (view,) = batch["views"]
    painted, hidden = model.reconstruct(view, batch["key"])
    patches = (
        view.x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(5, 16, 48)
    )  # pixels of each patch, channels last
    errors = [(painted[s, m] - patches[s, hidden[s, m]]).square().mean() for s in range(5) for m in range(12)]
    assert_close(model.step(batch)["loss"], torch.stack(errors).mean())


def test_pictures_are_the_view_what_was_visible_and_what_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = method(), batch_of()
    (view,) = batch["views"]
    shown = model.pictures(batch)
    assert list(shown) == ["original", "visible", "reconstructed"]
    assert torch.equal(shown["original"], view.x)
    visible, hidden = random_masking(batch["key"], 16, 0.75)
    original, seen, painted = (model.encoder.content(View(each)) for each in shown.values())
    assert torch.equal(take(seen, visible), take(original, visible)) and take(seen, hidden).isnan().all()
    assert torch.equal(take(painted, visible), take(original, visible)) and not torch.isclose(painted, original).all()
    for normalised in (True, False):  # a decoder that paints its targets gives the view back
        model.normalise_target = normalised
        perfect = model.target(take(original, hidden))[0]
        with monkeypatch.context() as patch:
            patch.setattr(model, "reconstruct", lambda *_, perfect=perfect: (perfect, hidden))
            assert_close(model.pictures(batch)["reconstructed"], view.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_runs_in_other_dtypes(dtype: torch.dtype) -> None:
    model, batch = method().to(dtype), batch_of()
    expected = method().step(batch)["loss"]
    loss = model.step({**batch, "views": [View(batch["views"][0].x.to(dtype))]})["loss"]
    loss.backward()
    assert_close(loss.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(run: Run, tmp_path: Path) -> None:
    spec = {
        "method": "mae",
        "samples": 70,
        "watch": False,
        "init_args": {"decoder_dim": 16},
        "trainer": {"max_epochs": 2},
    }
    straight = finished(run(tmp_path / "straight", **spec))
    kill(run, tmp_path / "killed", "backward", 7, save_at=[3, 5], **spec)
    resumed = finished(run(tmp_path / "killed", ckpt_path="auto", **spec))
    assert resumed["resumed from"].endswith("step-00000005.ckpt")
    assert_same(resumed, straight)


# Mistakes.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask_ratio": 1.5}, r"MAE\(mask_ratio=1.5\)"),
        ({"mask_ratio": 0.0}, r"MAE\(mask_ratio=0.0\)"),
        ({"decoder_dim": 18}, r"MAE\(decoder_dim=18\) must be a multiple of decoder_heads=4, and of 4"),
        ({"decoder_dim": 16, "decoder_heads": 3}, r"MAE\(decoder_dim=16\) must be a multiple of decoder_heads=3"),
        ({"decoder_depth": 0}, "depth=0"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        method(**change)


def test_an_encoder_without_tokens_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"MAE needs an ssl_lightning\.TokenEncoder, such as ViTEncoder, got a ConvEncoder"
    ):
        MAE(ConvEncoder())  # type: ignore[arg-type]


def test_images_of_another_size_and_of_one_patch_are_refused() -> None:
    with pytest.raises(ValueError, match="takes images of 16x16 pixels, got 2x2"):
        method().step(batch_of(size=2))
    with pytest.raises(ValueError, match="at least 2 tokens a sample, got 1"):
        method(size=4).step(batch_of(size=4))


def test_an_encoder_that_needs_all_tokens_is_refused() -> None:
    from ssl_lightning import WaveTransformer

    with pytest.raises(
        TypeError, match="gives the visible tokens alone, and WaveTransformer needs all of a row; take ViTEncoder"
    ):
        MAE(WaveTransformer(size="tiny"))


def test_padded_recordings_are_refused() -> None:
    from ssl_lightning.datamodules.tones import Tones

    from ssl_lightning.encoders.frames import FrameTransformer

    data = Tones(seconds=None)
    data.prepare_data()
    with pytest.raises(
        ValueError,
        match=r"MAE would take the padding of recordings of varying length for sound: set --data\.seconds 1\.0",
    ):
        data.serve(MAE(FrameTransformer(mels=32, dim=32, depth=1)))
