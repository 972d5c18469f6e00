"""HuggingFaceSpeech: any encoder of waves of transformers, whose padding is never heard."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    ASTConfig,
    AutoModel,
    Data2VecAudioConfig,
    HubertConfig,
    PreTrainedConfig,
    SEWConfig,
    UniSpeechSatConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    WavLMConfig,
)
from wav2vec2_twins import recordings

from ssl_lightning import View
from ssl_lightning.encoders.hf_speech import HuggingFaceSpeech
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.pretrained import load_encoder

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
}
LARGE: dict[str, Any] = {**SIZES, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "wav2vec2": lambda: Wav2Vec2Config(**SIZES),
    "wav2vec2, large": lambda: Wav2Vec2Config(**LARGE),
    "wav2vec2, with an adapter": lambda: Wav2Vec2Config(**LARGE, add_adapter=True),
    "hubert": lambda: HubertConfig(**SIZES),
    "hubert, large": lambda: HubertConfig(**LARGE),
    "wavlm": lambda: WavLMConfig(**SIZES, num_buckets=8),
    "wavlm, large": lambda: WavLMConfig(**LARGE, num_buckets=8),
    "data2vec": lambda: Data2VecAudioConfig(**{**SIZES, "num_conv_pos_embeddings": 2}, conv_pos_kernel_size=5),
    "unispeech_sat": lambda: UniSpeechSatConfig(**SIZES),
    "sew": lambda: SEWConfig(**SIZES, squeeze_factor=2),
}
LENGTHS = [400, 233, 120, 400, 21]
"""Samples of recordings in rows of 400; a frame is made of 30, and SEW takes two."""


def saved(config: PreTrainedConfig, folder: Path) -> Any:
    """A model of this config, in a folder as it would be published."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return model


def view_of(loud: float = 5.0) -> View:
    x, real = recordings(LENGTHS, 400, loud)
    return View(x.float(), real * torch.arange(1, 6)[:, None])


def states(model: Any, x: Tensor) -> list[Tensor]:
    made = model(x, output_hidden_states=True)
    return [*made.hidden_states[:-1], made.last_hidden_state]


@pytest.mark.by_default(4)
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_model_for_each_recording_alone(tmp_path: Path, family: str) -> None:
    """Mean of the last layer, and of every one; every weight learns and belongs to one layer; a
    checkpoint rebuilds it without the folder."""
    folder, view = tmp_path / "published", view_of()
    model = saved(FAMILIES[family](), folder)
    encoder = HuggingFaceSpeech(str(folder))
    assert encoder.training and all(module.training for module in encoder.modules()) and encoder.reads_padding
    encoder.eval()
    if model.config.model_type == "wav2vec2":
        model.adapter = None
    features, layers = encoder(view), encoder.layer_features(view)
    assert features.shape == (5, encoder.dim)
    for row, n in enumerate(LENGTHS):
        alone = view.x[row : row + 1, :n]
        alone = torch.nn.functional.pad(
            alone, (0, max(0, (50 if family == "sew" else 30) - n))
        )  # one frame at least, of silence
        expected = torch.stack([state.mean(1) for state in states(model, alone)], dim=1)
        assert_close(layers[row : row + 1], expected, atol=1e-5, rtol=1e-4)
        assert_close(features[row : row + 1], expected[:, -1], atol=1e-5, rtol=1e-4)
        assert_close(encoder(View(alone)), expected[:, -1], atol=1e-5, rtol=1e-4)
    assert layers.shape[1] == 3
    assert_close(encoder(view_of(-9.0)), features, atol=1e-5, rtol=1e-4)

    groups = encoder.layer_groups()
    assert sorted(id(each) for group in groups for each in group) == sorted(id(each) for each in encoder.parameters())
    assert len(groups) == 3 + 1 + 2 + ("large" in family or "adapter" in family)
    encoder.train()
    encoder(view).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    shutil.rmtree(folder)
    again = load_encoder(tmp_path / "encoder.safetensors")
    assert again.init_args["pretrained"] is False
    assert_close(again.eval()(view), encoder.eval()(view))


def test_nothing_is_drawn_but_dropout(tmp_path: Path) -> None:
    """A published config asks for masks and for layers left out while it trains."""
    saved(Wav2Vec2Config(**LARGE, layerdrop=0.9, mask_time_prob=0.9, mask_time_length=2), tmp_path)
    encoder = HuggingFaceSpeech(str(tmp_path)).train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            setattr(module, "dropout", 0.0)  # noqa: B010  of any class
    assert_close(encoder(view_of()), encoder.eval()(view_of()))


def test_the_run_s_config_holds_the_model_s(tmp_path: Path) -> None:
    saved(HubertConfig(**SIZES), tmp_path)
    args = HuggingFaceSpeech.suited_args({"name": str(tmp_path)})
    assert args["config"] == HuggingFaceSpeech(str(tmp_path)).init_args["config"]
    assert HuggingFaceSpeech.suited_args(args) == args and HuggingFaceSpeech.suited_args({}) == {}
    shutil.rmtree(tmp_path)
    assert rebuild(config_of(HuggingFaceSpeech(**args, pretrained=False))).dim == 16


def test_mistakes_are_told(tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    saved(ASTConfig(**small), tmp_path / "ast")
    saved(Wav2Vec2BertConfig(**small), tmp_path / "bert")
    model = saved(HubertConfig(**SIZES), tmp_path / "hubert")
    for name, said in (
        ("ast", "audio-spectrogram-transformer is not an encoder of waves"),
        ("bert", "wav2vec2-bert is not an encoder of waves"),
    ):
        with pytest.raises(ValueError, match=said):
            HuggingFaceSpeech(str(tmp_path / name))
    with pytest.raises(ValueError, match="neither as a folder nor from the hub"):
        HuggingFaceSpeech("./nothing")
    model.save_pretrained(
        tmp_path / "part",
        state_dict={name: value for name, value in model.state_dict().items() if "q_proj" not in name},
    )
    with pytest.raises(ValueError, match=r"lack 4 tensors, among them encoder\.layers\.0\.attention\.q_proj\.bias"):
        HuggingFaceSpeech(str(tmp_path / "part"))
    with pytest.raises(ValueError, match=r"takes waves \[S, T\], got .*--data\.features wave"):
        HuggingFaceSpeech(str(tmp_path / "hubert"))(View(torch.rand(2, 1, 8, 8)))
