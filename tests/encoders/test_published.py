"""Published weights by name: the same features as in the library that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from ssl_lightning import Reader, View, load_encoder
from ssl_lightning.cli.main import main
from ssl_lightning.encoders.published import is_published


def test_a_name_is_no_path() -> None:
    assert all(map(is_published, ("timm:resnet18", "hf:a/b", Path("hf:m"))))
    assert not any(map(is_published, ("timm:", "runs/x", "C:/x", "x:y", Path("timm"))))


def test_a_folder_of_timm_gives_timms_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False).eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    save_for_hf(model, tmp_path / "model")
    size = model.pretrained_cfg["input_size"][1]
    array = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(array).save(tmp_path / "images" / "a.png")
    x = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    x = (x - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x[None]), pre_logits=True)
    for name in (f"timm:{tmp_path / 'model'}", f"timm:local-dir:{tmp_path / 'model'}"):
        assert torch.allclose(Reader(name)([tmp_path / "images" / "a.png"]), expected, atol=1e-5)
        out = tmp_path / "vectors.npz"
        assert main(["embed", name, str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
        assert np.allclose(np.load(out)["vector"], expected.numpy(), atol=1e-5)
    for name, message in (
        (f"timm:{tmp_path}", "is no folder of a timm model"),
        ("timm:resnet81", "resnet81"),
        (f"hf:{tmp_path / 'nothing'}", "transformers cannot load"),
    ):
        assert main(["embed", name, str(tmp_path / "images"), "--out", str(out)]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


@pytest.mark.parametrize("pool", [{"global_pool": "avg", "fc_norm": False}, {"global_pool": "token"}])
def test_a_vision_transformer_of_any_size_is_read_from_a_folder(pool: dict[str, Any], tmp_path: Path) -> None:
    """And its features are timm's, whichever tokens are pooled."""
    sizes = {"img_size": 16, "patch_size": 4, "in_chans": 1, "embed_dim": 8, "depth": 1, "num_heads": 2, **pool}
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes).eval()
    save_for_hf(model, str(tmp_path), model_args=sizes)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(load_encoder(f"timm:{tmp_path}")(View(x)), model(x), atol=1e-6)


def test_folders_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=7, max_position_embeddings=64, **small)).eval()
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
    read = Reader(f"hf:{tmp_path / 'bert'}")
    assert read.data.row_length == 64
    with torch.no_grad():
        expected = bert(torch.tensor([[2, 5, 6, 3]])).last_hidden_state.mean(dim=1)
    assert torch.allclose(read(["a text"]), expected, atol=1e-5)

    stem = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_conv_pos_embeddings": 8}
    config = transformers.HubertConfig(**small, **stem, num_conv_pos_embedding_groups=2)
    hubert = transformers.HubertModel(config).eval()
    hubert.save_pretrained(tmp_path / "hubert")
    (tmp_path / "hubert" / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000, "do_normalize": False})
    )
    read = Reader(f"hf:{tmp_path / 'hubert'}")
    wave = torch.randn(4000)
    with torch.no_grad():
        expected = hubert(wave[None]).last_hidden_state.mean(dim=1)
    assert torch.allclose(read([(wave, 8000)]), expected, atol=1e-4)
    assert load_encoder(f"hf:{tmp_path / 'hubert'}").dim == 16
