"""transformers' Wav2Vec2ForPreTraining in a plain loop, with the masks and negatives of its
pretraining example; `wav2vec2.py` calls it.

python hf_wav2vec2.py BATCH PRECISION SIZES transformers
"""

from __future__ import annotations

import json
import sys
from itertools import count

import torch
from paced import Pace
from ssl_lightning.datamodules.tones import Tones
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from ssl_lightning import ViewSpec


class Asks:
    views = ViewSpec(full=1, strength="weak")


def main(batch: str, precision: str, sizes: str, how: str) -> None:
    torch.manual_seed(0)
    size, given = int(batch), json.loads(sizes)
    data = Tones(features="wave", sample_rate=16_000, batch_size=1_000)
    data.prepare_data()
    data.serve(Asks())
    waves = data.make_batch(next(iter(data.train_dataloader())))["views"][0].x  # 1,000 clips, ready
    config = Wav2Vec2Config(
        conv_dim=[given["maps"]] * 7, hidden_size=given["dim"], num_hidden_layers=given["depth"],
        num_attention_heads=given["heads"], intermediate_size=4 * given["dim"], feat_extract_norm="layer",
        do_stable_layer_norm=True, conv_bias=True, layerdrop=0.0, activation_dropout=0.0, mask_time_prob=0.65,
        mask_time_length=10, num_negatives=100, codevector_dim=256, proj_codevector_dim=256,
    )  # fmt: skip
    model = Wav2Vec2ForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    tokens = int(model._get_feat_extract_output_lengths(torch.tensor(waves.shape[1])))
    pace = Pace()
    for _ in count():
        x = waves[torch.randint(len(waves), (size,))]
        hidden = _compute_mask_indices((size, tokens), 0.65, 10, min_masks=2)
        others = _sample_negative_indices((size, tokens), 100, hidden)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            out = model(
                x, mask_time_indices=torch.from_numpy(hidden), sampled_negative_indices=torch.from_numpy(others)
            )
        loss = out.loss / int(hidden.sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
