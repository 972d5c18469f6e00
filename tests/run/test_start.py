"""A run starts from weights that something has learned: of a run, of a file, of a folder of timm or
of transformers."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.mae import MAE
from ssl_lightning.methods.simclr import SimCLR
from timm.models import save_for_hf

import ssl_lightning
from ssl_lightning.encoders.kinds import needed_encoder
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import read
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.start import Origin, Start, load_weights, origin_of
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

METHODS = Registry("ssl_lightning.methods")


def trained(root: Path, method: Any, data: Any, start: Start | None = None, steps: int = 2, **options: Any) -> Any:
    """The trainer of a short run without probes and table."""
    off = [OnlineLinearProbe(False), KNNProbe(False), Report(False)]
    trainer = ssl_lightning.Trainer(
        **{"max_steps": steps, "accelerator": "cpu", "precision": "32-true", "default_root_dir": str(root), **options},
        enable_progress_bar=False,
        callbacks=[*off, *([start] if start else [])],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data)
    return trainer


def new(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return METHODS[name](tiny_encoder(METHODS[name]))


def same(one: Any, other: Any, but: tuple[str, ...] = ()) -> list[str]:
    """The names of tensors that differ in two state dicts."""
    one, other = dict(one), dict(other)
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name]) and not name.startswith(but)]


@pytest.mark.parametrize("name", METHODS)
def test_each_method_starts_from_a_run_and_from_a_file(name: str, tmp_path: Path) -> None:
    """From a run: heads, teacher and queue too. From a file: its encoder, of which teachers are
    copies. At a learning rate of zero, weights stay what they were."""
    cls = METHODS[name]
    data = tiny_data(cls, samples=64)
    folder = trained(tmp_path / "first", new(name), data).run_folder
    learned = ssl_lightning.load(folder)
    whole = new(name, seed=1)
    load_weights(whole, origin_of(str(folder), cls), "it")
    assert same(whole.state_dict(), learned.state_dict()) == []
    part = new(name, seed=1)
    load_weights(part, origin_of(str(folder / "encoder.safetensors"), cls), "it")
    assert same(part.backbone.state_dict(), learned.backbone.state_dict()) == []
    for teacher in part.teachers:
        assert same(teacher.module.state_dict(), teacher._source[0].state_dict()) == []
    assert part.backbone.taught and whole.backbone.taught
    again = new(name, seed=2)
    trained(tmp_path / "second", again, tiny_data(cls, samples=64, seed=3), Start(str(folder)), steps=1)


def folder_for(kind: str, tmp_path: Path) -> str:
    """A folder of another library with weights for a method that needs this kind of encoder."""
    torch.manual_seed(0)
    if kind in ("Encoder", "TokenEncoder"):
        arguments: dict[str, Any] = {"img_size": 16, "patch_size": 4, "in_chans": 1}
        arguments |= {"embed_dim": 8, "depth": 1, "num_heads": 2}
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
        save_for_hf(model, str(tmp_path / "model"), model_args=arguments)
        return f"timm:{tmp_path / 'model'}"
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "TextEncoder":
        transformers.BertModel(transformers.BertConfig(vocab_size=40, **small)).save_pretrained(tmp_path / "model")
        tokenizer(tmp_path / "model" / "tokenizer.json")
    else:
        stem = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_conv_pos_embeddings": 8}
        config = transformers.Wav2Vec2Config(**small, **stem, num_conv_pos_embedding_groups=2)
        transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "model")
    return f"hf:{tmp_path / 'model'}"


def tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(35))]
    Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")).save(str(path))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_starts_from_a_folder_of_another_library(name: str, tmp_path: Path) -> None:
    """A folder of timm where it reads images, of transformers where it reads texts or waves."""
    cls = METHODS[name]
    kind = needed_encoder(cls)
    if kind in ("SequenceEncoder", "WaveEncoder"):
        for other in ("Encoder", kind):
            with pytest.raises(ValueError, match=f"needs a {kind}, such as .*; the encoder there is a "):
                origin_of(folder_for(other, tmp_path / other), cls)
        return
    origin = origin_of(folder_for(kind, tmp_path), cls)
    method = cls(origin_of(folder_for(kind, tmp_path), cls).encoder)
    for weight in method.backbone.parameters():
        weight.data.zero_()
    load_weights(method, origin, "it")
    assert same(method.backbone.state_dict(), origin.encoder.state_dict()) == []


def test_a_vision_transformer_of_timm_gives_a_masking_method_equal_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"img_size": 16, "patch_size": 4, "in_chans": 1}
    model = timm.create_model("test_vit", num_classes=0, **arguments)
    save_for_hf(model, str(tmp_path / "model"), model_args=arguments)
    path = f"timm:{tmp_path / 'model'}"
    plain, tokens = origin_of(path).encoder, origin_of(path, MAE).encoder
    assert isinstance(plain, TimmEncoder) and isinstance(tokens, ViTEncoder)
    view = ssl_lightning.View(torch.randn(3, 1, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(tokens(view), plain(view), atol=1e-5, rtol=0)


def test_positions_are_interpolated_to_images_of_another_size() -> None:
    sizes: dict[str, Any] = {"channels": 1, "patch_size": 4}
    name = "vit_tiny_patch16_224"
    small, large = TimmEncoder(name, image_size=16, **sizes), TimmEncoder(name, image_size=32, **sizes)
    method = SimCLR(large)
    load_weights(method, Origin(small, None, {}), "it")
    middle = large.model.pos_embed[:, 1:].unflatten(1, (8, 8)).mean(dim=(1, 2))
    torch.testing.assert_close(middle, small.model.pos_embed[:, 1:].mean(dim=1), atol=1e-2, rtol=0)
    assert torch.equal(large.model.pos_embed[:, 0], small.model.pos_embed[:, 0])


def test_the_optimizers_moments_go_on_where_they_were(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", new("simclr"), TinyImages()).run_folder
    states = [read(newest_of(folder))["optimizer_states"][0]["state"]]
    trainer = trained(
        tmp_path / "b", new("simclr"), TinyImages(), Start(str(folder), optimizer=True), steps=1, limit_train_batches=1
    )
    states.append(trainer.optimizers[0].state_dict()["state"])
    assert [int(state[0]["step"]) for state in states] == [2, 3]
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == SimCLR(TinyEncoder()).optimizer_spec.weight_decay
    other = SimCLR(TinyEncoder(), optimizer="lars")
    with pytest.raises(ValueError, match=r"the optimizer of .* is of another kind"):
        trained(tmp_path / "c", other, TinyImages(), Start(str(folder), optimizer=True))
    with pytest.raises(MisconfigurationException, match="holds no optimizer; give a run folder or a checkpoint"):
        trained(tmp_path / "d", new("simclr"), TinyImages(), Start(str(folder / "encoder.safetensors"), optimizer=True))


def test_the_heads_warm_up_on_an_encoder_that_stays_as_it_is(tmp_path: Path) -> None:
    """For 1.5 epochs of 4 steps; then the encoder learns too. Nor does it decay."""
    folder = trained(tmp_path / "a", new("byol"), TinyImages()).run_folder
    before = ssl_lightning.load(folder).state_dict()
    for steps, moved in ((6, False), (7, True)):
        method = new("byol", seed=5)
        start = Start(str(folder), frozen_epochs=1.5)
        trained(tmp_path / str(steps), method, TinyImages(samples=64, batch_size=16), start, steps=steps)
        changed = same(method.state_dict(), before)
        assert any(name.startswith("projector") for name in changed)
        assert any(name.startswith("encoder.") for name in changed) == moved


def test_weights_are_those_of_the_checkpoint_when_a_run_goes_on(tmp_path: Path) -> None:
    """The run that it started from may be gone by then; the trunk stays frozen as planned."""
    first = trained(tmp_path / "a", new("byol"), TinyImages()).run_folder
    straight, resumed = new("byol", seed=5), new("byol", seed=6)
    trained(tmp_path / "b", straight, TinyImages(), Start(str(first), frozen_epochs=0.5), steps=6)
    half = trained(tmp_path / "c", new("byol", seed=5), TinyImages(), Start(str(first), frozen_epochs=0.5), steps=3)
    checkpoint = newest_of(half.run_folder)
    del half
    shutil.rmtree(first)
    off = [OnlineLinearProbe(False), KNNProbe(False), Report(False), Start(str(first), frozen_epochs=0.5)]
    trainer = ssl_lightning.Trainer(
        max_steps=6, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path / "c"), callbacks=off,
        enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(resumed, datamodule=TinyImages(), ckpt_path=checkpoint)
    assert [name for name in same(straight.state_dict(), resumed.state_dict()) if name.startswith("encoder")] != []


def test_wrong_uses_are_told_before_a_run_folder_is_made(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", new("simclr"), TinyImages()).run_folder
    wide = SimCLR(TinyEncoder(dim=16))
    for method, start, error, message in (
        (new("simclr"), {"weights": str(tmp_path / "none")}, FileNotFoundError, "none"),
        (wide, {"weights": str(folder)}, ValueError, "do not fit the SimCLR of this run: size mismatch"),
        (wide, {"weights": str(folder), "heads": False}, ValueError, "do not fit the TinyEncoder"),
        (new("mae"), {"weights": str(folder)}, ValueError, "a TinyEncoder is not cut into tokens"),
        (new("bert"), {"weights": str(folder)}, ValueError, "needs a TextEncoder, such as TextTransformer"),
    ):
        data = tiny_data(type(method))
        with pytest.raises(error, match=message):
            trained(tmp_path / "b", method, data, Start(**start))
    assert not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match="has no weights to start from"):
        Start(frozen_epochs=1)
    with pytest.raises(ValueError, match="must be at least 0"):
        Start("x", frozen_epochs=-1)


def test_the_config_says_what_a_run_started_from(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", new("simclr"), TinyImages()).run_folder
    second = trained(tmp_path / "b", new("byol"), TinyImages(), Start(str(folder))).run_folder
    text = (second / "config.yaml").read_text()
    assert f"start:\n  weights: {folder}\n" in text
    assert "start" not in (folder / "config.yaml").read_text()


def test_the_closing_table_has_the_weights_of_before(tmp_path: Path) -> None:
    """And no warning that the config does not name them."""
    path = tmp_path / "encoder.safetensors"
    torch.manual_seed(0)
    encoder = TinyEncoder()
    encoder.taught = True
    save_encoder(encoder, path)
    trainer = ssl_lightning.Trainer(
        max_steps=2, accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path), enable_progress_bar=False,
        callbacks=[OnlineLinearProbe(False), KNNProbe(False), Start(str(path)), Report(draws=1, labels_only=False)],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*does not name.*")
        trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert trainer.run_folder is not None
    summary = json.loads((trainer.run_folder / "summary.json").read_text())
    assert "final/published/knn" in summary and "final/untrained/knn" in summary


def test_a_fine_tuning_starts_from_a_run_as_from_its_checkpoint(tmp_path: Path) -> None:
    folder = trained(tmp_path / "a", new("simclr"), TinyImages()).run_folder
    ends = []
    for method, start in (
        (Finetune(TinyEncoder(), checkpoint=str(folder)), None),
        (Finetune(TinyEncoder()), Start(str(folder))),
    ):
        trained(tmp_path / "b", method, TinyImages(), start, max_epochs=1, steps=-1)
        ends.append(method.backbone.state_dict())
    assert same(ends[0], ends[1]) == []


def test_layers_of_a_pretraining_run_learn_at_falling_rates() -> None:
    method = BYOL(TinyEncoder(), optimizer_args={"layer_decay": 0.5})
    optimizer, _ = method.optimizer_spec.build(method, 256, 10, 1)
    assert len({group["lr"] for group in optimizer.param_groups}) > 1
