"""A training step of lightly's SimCLR and of transformers' models, of the shapes of ours, on the
same samples. What they would do on the host for a batch (padding, masks) is done once, before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lightning.types import Batch

from .clock import DEVICE
from .trained import PeerLoop

Step = Callable[[], Any]


def lightly_simclr(batch: Batch, precision: str, full: bool) -> Step:
    """Of lightly's example: torchvision's ResNet-18, with the stem for small images; tiny: with
    nothing else than that stem."""
    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    resnet = torchvision.models.resnet18()
    resnet.conv1, resnet.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    layers = list(resnet.children())[:-1] if full else [resnet.conv1, resnet.avgpool]
    width = 512 if full else 64
    backbone = nn.Sequential(*layers, nn.Flatten())
    model = nn.ModuleList([backbone, SimCLRProjectionHead(width, width, 128)]).to(DEVICE)
    criterion = NTXentLoss(temperature=0.2)
    one, two = (view.x for view in batch["views"])
    return PeerLoop(model, lambda: criterion(model[1](model[0](one)), model[1](model[0](two))), precision)


def transformers_mae(method: Any, batch: Batch, precision: str) -> Step:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    (view,) = batch["views"]
    vit, decoder = method.encoder.model, method.decoder
    config = ViTMAEConfig(
        image_size=view.x.shape[-1], patch_size=vit.patch_embed.patch_size[0], hidden_size=method.encoder.dim,
        num_hidden_layers=len(vit.blocks), num_attention_heads=vit.blocks[0].attn.num_heads,
        intermediate_size=4 * method.encoder.dim, mask_ratio=method.mask_ratio, norm_pix_loss=method.normalise_target,
        decoder_hidden_size=method.embed.out_features, decoder_num_hidden_layers=len(decoder.blocks),
        decoder_num_attention_heads=decoder.blocks[0].heads, decoder_intermediate_size=4 * method.embed.out_features,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).to(DEVICE)
    same_size(model, method, 0.02)
    return PeerLoop(model, lambda: model(pixel_values=view.x).loss, precision)


def transformers_bert(method: Any, ids: list[Tensor], precision: str) -> Step:
    from transformers import BertConfig, BertForMaskedLM

    longest = max(map(len, ids))
    x = torch.stack([nn.functional.pad(each, (0, longest - len(each))) for each in ids])
    attention = torch.arange(longest) < torch.tensor([[len(each)] for each in ids])
    hidden = attention & (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < method.mask_ratio)
    labels, seen = x.masked_fill(~hidden, -100), x.masked_fill(hidden, 4)
    x, attention, labels, seen = (each.to(DEVICE) for each in (x, attention, labels, seen))
    trunk = method.encoder.trunk
    config = BertConfig(
        vocab_size=method.encoder.embedding.num_embeddings, hidden_size=method.encoder.dim,
        num_hidden_layers=len(trunk.blocks), num_attention_heads=trunk.blocks[0].heads,
        intermediate_size=4 * method.encoder.dim, max_position_embeddings=max(longest, method.encoder.max_length),
    )  # fmt: skip
    model = BertForMaskedLM(config).to(DEVICE)
    same_size(model, method, 0.02)
    return PeerLoop(
        model, lambda: model(input_ids=seen, attention_mask=attention.long(), labels=labels).loss, precision
    )


def full_rows(ids: list[Tensor], row_length: int) -> list[Tensor]:
    """The tokens of all texts, cut into full rows, the last of which may be shorter."""
    return list(torch.cat(ids).split(row_length))


def transformers_wav2vec2(method: Any, batch: Batch, precision: str) -> Step:
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    (view,) = batch["views"]
    encoder = method.encoder
    config = Wav2Vec2Config(
        conv_dim=[encoder.features_dim] * 7, hidden_size=encoder.dim, num_hidden_layers=len(encoder.trunk.blocks),
        num_attention_heads=encoder.trunk.blocks[0].heads, intermediate_size=4 * encoder.dim, layerdrop=0.0,
        activation_dropout=0.0, mask_time_prob=method.mask_ratio, mask_time_length=method.mask_length,
        num_negatives=method.negatives, codevector_dim=256, proj_codevector_dim=256,
    )  # fmt: skip
    model = Wav2Vec2ForPreTraining(config).to(DEVICE)
    same_size(model, method, 0.02)
    shape = (len(view.x), int(model._get_feat_extract_output_lengths(torch.tensor(view.x.shape[1]))))
    hidden = _compute_mask_indices(shape, method.mask_ratio, method.mask_length, min_masks=2)
    negatives = torch.from_numpy(_sample_negative_indices(shape, method.negatives, hidden)).to(DEVICE)
    masked, count = torch.from_numpy(hidden).to(DEVICE), int(hidden.sum())

    def loss() -> Any:
        return model(view.x, mask_time_indices=masked, sampled_negative_indices=negatives).loss / count

    return PeerLoop(model, loss, precision)


def same_size(model: nn.Module, method: nn.Module, tolerance: float) -> None:
    """Raises ValueError unless both have about as many weights: otherwise the shapes differ."""
    theirs, ours = (sum(weight.numel() for weight in each.parameters()) for each in (model, method))
    if abs(theirs - ours) > tolerance * ours + 2_000:
        raise ValueError(f"{type(model).__name__} has {theirs:,} weights, {type(method).__name__} {ours:,}.")
