"""Encoders give the vector of each layer, the last one as `forward` does; those of images and texts
for `embed --layers` alone, those of sound for a row of the closing table too."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ssl_lightning import View
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.evaluation.layers import has_layers

SMALL: dict[str, Any] = {"dim": 16, "depth": 2, "heads": 2}
PACKED = torch.tensor([[1] * 5 + [2] * 3, [3] * 6 + [0] * 2])
IMAGES, TEXTS = View(torch.randn(3, 1, 16, 16)), View(torch.randint(5, 30, (2, 8)) * (PACKED > 0), PACKED, samples=3)
VIT = partial(ViTEncoder, channels=1, image_size=16, patch_size=4, **SMALL)
CASES: dict[str, tuple[Any, View]] = {
    "mean of patches": (VIT, IMAGES),
    "class token": (partial(VIT, pooling="token"), IMAGES),
    "tokens": (partial(TextTransformer, vocab_size=30, max_length=8, **SMALL), TEXTS),
    "first token": (partial(TextTransformer, vocab_size=30, max_length=8, pooling="first", **SMALL), TEXTS),
}


@pytest.mark.parametrize("name", CASES)
def test_the_last_layer_is_the_encoders_vector_and_the_first_knows_no_other_token(name: str) -> None:
    build, view = CASES[name]
    torch.manual_seed(0)
    encoder = build().eval()
    with torch.no_grad():
        layers = encoder.layer_features(view)
        assert layers.shape == (3, 3, 16)
        assert_close(layers[:, -1], encoder(view))
        # After one block the vectors are those of an encoder that ends there.
        blocks = encoder.model.blocks if isinstance(encoder, ViTEncoder) else encoder.trunk.blocks
        del blocks[1:]
        assert not torch.allclose(layers[:, 1], layers[:, 2])
        assert_close(encoder.layer_features(view)[:, 0], layers[:, 0])
    assert not has_layers(encoder)


def test_of_a_text_model_of_transformers_each_layer_is_transformers_own() -> None:
    pytest.importorskip("transformers")
    from ssl_lightning.encoders.hf_text import HuggingFaceText

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = {"model_type": "bert", "vocab_size": 30, **sizes}
    torch.manual_seed(0)
    encoder = HuggingFaceText("none", pretrained=False, config=config).eval()
    with torch.no_grad():
        layers = encoder.layer_features(TEXTS)
        assert_close(layers[:, -1], encoder(TEXTS))
        alone = encoder.model(TEXTS.x[:1, :5], output_hidden_states=True).hidden_states
        assert_close(layers[0], torch.stack([state.mean(dim=1)[0] for state in alone]), atol=1e-5, rtol=1e-4)
    assert not has_layers(encoder) and has_layers(FrameTransformer(mels=8, **SMALL))
