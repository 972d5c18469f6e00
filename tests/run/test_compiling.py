"""Networks compile whole, and nothing but the speed of a step tells of it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.mae import MAE
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import View, load
from ssl_lightning.augment.image import Augmentation, ImagePolicy
from ssl_lightning.augment.log_mel import LogMel
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.augment.window import Waves
from ssl_lightning.data.views import as_view
from ssl_lightning.encoders.audio_conv import AudioConvEncoder
from ssl_lightning.encoders.base import TokenEncoder
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.hf_text import HuggingFaceText
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.encoders.wave import WaveTransformer
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.run.compiling import Compiled, compilable
from ssl_lightning.testing import TinyEncoder, TinyImages, TinyTokenEncoder
from ssl_lightning.testing.methods import MethodKit

METHODS = sorted(Registry("ssl_lightning.methods"))
SPEED = Path(__file__).parents[2] / "docs" / "speed.md"
SLOW = pytest.mark.slow
QUICK = ("byol", "mae")
"""A whole encoder, and its halves; the others are slow for their number."""


def gradients(loss: Any, method: Any) -> tuple[torch.Tensor, ...]:
    """Of the loss with respect to the parameters that learn."""
    return torch.autograd.grad(loss, [each for each in method.parameters() if each.requires_grad])


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` without a compiler of C++, which raises where it could not go on."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))


@pytest.fixture
def one_compiler() -> Iterator[None]:
    """Compiles in this process alone."""
    import torch._inductor.config as inductor

    with inductor.patch(compile_threads=1):
        yield


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in METHODS])
@pytest.mark.slow
def test_each_methods_networks_compile_without_a_graph_break(name: str, whole: None) -> None:
    """And twice the loss and the gradients are those without: the second time with another number
    of samples."""
    kit = MethodKit(Registry("ssl_lightning.methods")[name])
    plain, compiled = kit.method(), kit.method()
    for samples in (16, 13):
        batch = kit.batch(samples)
        expected = kit.loss(batch, plain)
        with Compiled(compiled):
            loss = kit.loss(batch, compiled)
        assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for one, other in zip(gradients(loss, compiled), gradients(expected, plain), strict=True):
            assert_close(one, other, rtol=1e-4, atol=1e-6)


IMAGES = View(torch.randn(3, 3, 32, 32))
PADDED = torch.tensor([[1] * 40, [2] * 30 + [0] * 10])
ENCODERS: dict[str, Any] = {
    "conv": (partial(ConvEncoder, channels=3), IMAGES),
    "timm": (partial(TimmEncoder, "resnet18", small_images=True), IMAGES),
    "vit": (partial(ViTEncoder, image_size=32, patch_size=8, dim=16, depth=1, heads=2), IMAGES),
    "audio_conv": (AudioConvEncoder, View(torch.randn(2, 1, 64, 40), PADDED)),
    "frames": (partial(FrameTransformer, dim=16, depth=1, heads=2), View(torch.randn(2, 1, 64, 40), PADDED)),
    "text": (
        partial(TextTransformer, dim=16, depth=1, heads=2, position="rotary", dropout=0.0),
        View(PADDED * 7, PADDED),
    ),
    "wav": (partial(WaveTransformer, maps=8, dim=16, depth=1, heads=2, dropout=0.0), View(torch.randn(2, 4000))),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(*case, marks=[] if case == ("text", None) else SLOW)
        for case in product(ENCODERS, (None, torch.bfloat16))
    ],
)
def test_each_encoder_compiles_without_a_graph_break(name: str, precision: Any, whole: None) -> None:
    build, view = ENCODERS[name]
    torch.manual_seed(0)
    encoder = build()
    with torch.autocast("cpu", precision, enabled=precision is not None):
        expected = encoder(view)
        with Compiled(encoder):
            assert_close(encoder(view), expected, rtol=1e-5, atol=1e-5)
            if isinstance(encoder, TokenEncoder):
                encoder.mix(encoder.tokenize(view))


IMAGE = ImagePolicy(rotation=10.0, shear=5.0, blur_p=0.5)
SOUND, MEL = SoundPolicy(masks=(1, 1)), LogMel(8000)
SMALL, LARGE = (torch.randint(0, 256, (16, 3, side, side), dtype=torch.uint8) for side in (32, 80))
WAVES, BANK = Waves(torch.randn(8, 4000), None), torch.randn(10, MEL.mels, MEL.frames(4000))
TRANSFORMS: dict[str, Any] = {
    "images": (IMAGE.build("strong_b", 32), SMALL),
    "large images": (IMAGE.build("strong", 72), LARGE),
    "log-mels": (SOUND.build("strong", 4000, MEL, bank=BANK), WAVES),
    "waves": (SOUND.build("strong", 4000, normalise=True), WAVES),
}


def compiled_like_plain(name: str) -> None:
    """Compiled, a transform makes the same views, of two numbers of samples."""
    transform, raw = TRANSFORMS[name]
    for samples in (8, 5):
        some = Waves(raw.x[:samples], None) if isinstance(raw, Waves) else raw[:samples]
        key = sample_keys(0, 0, torch.arange(samples))
        expected = as_view(transform(some, key)).x
        with Compiled(transform):
            assert_close(as_view(transform(some, key)).x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["log-mels", *(pytest.param(name, marks=SLOW) for name in TRANSFORMS if name != "log-mels")]
)
def test_augmentation_compiles_without_a_graph_break(name: str, whole: None) -> None:
    compiled_like_plain(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
def test_augmentation_is_the_same_as_compiled_by_inductor(name: str, one_compiler: None) -> None:
    compiled_like_plain(name)


def test_a_compiled_run_augments_in_compiled_functions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    data = TinyImages(samples=16)
    for changes, augmentations in (({}, 0), ({"compile": True}, 2)):
        compiled.clear()
        trainer = pl.Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
        )
        trainer.fit(SimCLR(TinyEncoder(), **changes), datamodule=data)
        assert compiled.count(Augmentation._run) == augmentations


def test_outside_of_a_step_no_module_is_compiled(whole: None) -> None:
    """Names of parameters and buffers are plain inside too, and a copy made inside has weights of
    its own."""
    method = BYOL(TinyEncoder(), hidden_dim=8, output_dim=4)
    names, view = list(method.state_dict()), View(torch.randn(4, 1, 16, 16))
    parts = compilable(method)
    assert [type(part) for part in parts] == [TinyEncoder, TinyEncoder], "the encoder, and the teacher's"
    with Compiled(method):
        assert list(method.state_dict()) == names
        assert all("forward" in vars(part) for part in parts)
        expected, twin = method.encoder(view), copy.deepcopy(method)
        with torch.no_grad():
            for parameter in method.encoder.parameters():
                parameter.zero_()
    assert not any("forward" in vars(part) for part in parts)
    assert not method.encoder(view).any()
    with Compiled(twin):
        assert_close(twin.encoder(view), expected)


class Breaks(TinyEncoder):
    def forward(self, view: View) -> Tensor:
        torch._dynamo.graph_break()
        return super().forward(view)


def test_the_tools_see_a_graph_break(whole: None) -> None:
    encoder = Breaks()
    with Compiled(encoder), pytest.raises(torch._dynamo.exc.Unsupported):
        encoder(View(torch.randn(4, 1, 16, 16)))


def test_an_error_in_a_step_leaves_the_module_plain(whole: None) -> None:
    encoder = TinyEncoder()
    with pytest.raises(ZeroDivisionError), Compiled(encoder):
        1 / 0  # noqa: B018
    assert "forward" not in vars(encoder)


def trained(folder: Path, **changes: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    method = MAE(TinyTokenEncoder(), decoder_dim=16, decoder_depth=1, warmup_epochs=0, **changes)
    trainer = pl.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, enable_checkpointing=False,
    )  # fmt: skip
    trainer.strategy.checkpoint_io = AtomicIO()
    trainer.fit(method, datamodule=TinyImages())
    trainer.save_checkpoint(folder / "end.ckpt", weights_only=False)
    return method.state_dict()


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_its_checkpoint_is_a_plain_one(
    whole: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: calls.append(function) or compile(function))
    expected = trained(tmp_path)
    assert not calls
    weights = trained(tmp_path, compile=True)
    assert calls
    assert list(weights) == list(expected)
    for name, value in weights.items():
        assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == list(expected)
    assert list(load(tmp_path / "end.ckpt").state_dict()) == list(expected)


def test_whether_a_run_is_compiled_is_not_part_of_its_identity() -> None:
    assert "compile" in MAE.incidental


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_the_same_as_compiled_by_inductor(name: str, one_compiler: None) -> None:
    kit = MethodKit(Registry("ssl_lightning.methods")[name])
    plain, compiled, batch = kit.method(), kit.method(), kit.batch()
    expected = kit.loss(batch, plain)
    with Compiled(compiled):
        loss = kit.loss(batch, compiled)
    assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients(loss, compiled), gradients(expected, plain), strict=True):
        assert (one - other).abs().max() <= 1e-3 * other.abs().max() + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_graph_breaks_is_true(name: str) -> None:
    """Of a whole step, by `torch._dynamo.explain`: docs/speed.md."""
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", SPEED.read_text(), flags=re.MULTILINE))
    kit = MethodKit(Registry("ssl_lightning.methods")[name])
    explained = torch._dynamo.explain(kit.method().step)(kit.batch())
    assert explained.graph_break_count == int(table[name]), explained.break_reasons


@pytest.mark.slow
def test_of_hugging_faces_encoders_whole_rows_compile_whole() -> None:
    """With shared rows the number of tokens depends on values."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=16, max_position_embeddings=64)
    encoder = HuggingFaceText("bert", pretrained=False, config=config.to_diff_dict()).eval()
    x, segment = torch.randint(0, 50, (1, 16)), torch.tensor([[1] * 10 + [2] * 6])
    assert torch._dynamo.explain(encoder.forward)(View(x)).graph_break_count == 0
    assert torch._dynamo.explain(encoder.forward)(View(x, segment, None, 2)).graph_break_count > 0
