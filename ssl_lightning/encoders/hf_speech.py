"""Any speech encoder of Hugging Face transformers that reads waves, so that published weights are
probed, tuned and trained on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.transformers_model import OfTransformers, config_of_model, library, model_of
from ssl_lightning.nn.masks.tokens import lengths
from ssl_lightning.types import View

NEVER = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "add_adapter": False,
}
"""What is off in every config: masks that numpy's generator draws, layers that are left out at
random, what is between it and a decoder."""

MASKING = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
"""Families that hear no padding behind a mask where their stem's norms are "layer"; data2vec's
convolutions for positions do."""


class HuggingFaceSpeech(OfTransformers, Encoder):
    """A speech encoder of transformers (Wolf et al. 2019, arXiv 1910.03771): wav2vec 2.0, HuBERT,
    WavLM, data2vec, SEW, UniSpeech, ...

    Features are the mean of the model's frames that are real. Most models would take padding for
    sound, those with norms over time in their stem (`feat_extract_norm` "group") among them, so
    recordings of each length go through by themselves; the others' go together, with a mask.

    Give the data the model's rate, mostly 16 kHz, `--data.sample_rate`; whether it takes waves of
    mean 0 and variance 1, as `--data.normalise` makes them, is `do_normalize` of its
    `preprocessor_config.json`.

    Args:
        name: of a model on the hub (`facebook/hubert-base-ls960`), or the folder of one.
        pretrained: whether to start from its weights, downloaded once. Off when a checkpoint
            rebuilds the encoder.
        config: what the model's `config.json` holds; None reads the one of `name`. A checkpoint has
            it, and so needs no folder.

    Raises:
        ValueError: transformers is not installed; there is no such model, it reads no waves, or it
            cannot be downloaded; in `forward`, the view is no wave.
    """

    reads_padding = True
    suited_data: ClassVar = {"features": "wave"}

    def __init__(self, name: str, *, pretrained: bool = True, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        auto = library("HuggingFaceSpeech")
        config = config_of_model(name) if config is None else config
        settings = auto.AutoConfig.for_model(
            **{**config, **{key: value for key, value in NEVER.items() if key in config}}
        )
        if settings.is_encoder_decoder or not (hasattr(settings, "conv_kernel") and hasattr(settings, "conv_stride")):
            raise ValueError(
                f"HuggingFaceSpeech({name!r}): a {settings.model_type} is no encoder of waves; choose one such as"
                " HuBERT or WavLM."
            )
        self.model = model_of("HuggingFaceSpeech", name, settings, pretrained, spare="masked_spec_embed")
        if getattr(self.model, "masked_spec_embed", None) is not None:
            self.model.masked_spec_embed = None  # would stay without a gradient
        self.init_args["config"] = config
        self.dim = int(settings.hidden_size)
        self.squeeze = int(getattr(settings, "squeeze_factor", 1))  # SEW's layers have so many times fewer frames
        self.by_length = settings.model_type not in MASKING or settings.feat_extract_norm == "group"

    def forward(self, view: View) -> Tensor:
        """Waves [S, T] -> features [S, dim]."""
        return self._pooled(view, every=False)[:, 0]

    def layer_features(self, view: View) -> Tensor:
        """The embedded frames, and those that each layer gives, the last ones normed as in
        `forward`: means [S, L, dim]."""
        return self._pooled(view, every=True)

    def _pooled(self, view: View, every: bool) -> Tensor:
        if view.x.ndim != 2 or not view.x.is_floating_point():
            raise ValueError(
                f"HuggingFaceSpeech takes waves [S, T], got {view.x.dtype} of shape {tuple(view.x.shape)}; data of"
                " sound gives them with --data.features wave."
            )
        least, wave = self._least, view.x if view.segment is None else view.x * (view.segment > 0)
        x = F.pad(wave, (0, max(0, least - wave.shape[1])))
        if view.segment is None:
            return self._read(x, None, every)
        length = lengths(view).clamp(min=least)  # a recording too short for a frame has one
        if not self.by_length:
            return self._read(x, length, every)
        found: Tensor | None = None
        for each in length.unique().tolist():
            rows = (length == each).nonzero()[:, 0]
            made = self._read(x[rows, :each], None, every)
            found = made.new_zeros(len(x), *made.shape[1:]) if found is None else found
            found = found.index_copy(0, rows, made)
        assert found is not None
        return found

    def _read(self, x: Tensor, length: Tensor | None, every: bool) -> Tensor:
        """Waves [S, T], and how many samples of each are real -> means over real frames [S, L or 1,
        dim]."""
        mask = None if length is None else (torch.arange(x.shape[1], device=x.device) < length[:, None]).long()
        made = self.model(x, attention_mask=mask, output_hidden_states=every)
        states = [*made.hidden_states[:-1], made.last_hidden_state] if every else [made.last_hidden_state]
        if length is None:
            return torch.stack([state.mean(1) for state in states], dim=1)
        frames = self.model._get_feat_extract_output_lengths(length)
        real = torch.arange(states[-1].shape[1], device=x.device) < frames[:, None]  # [S, N]
        sums = [(state * real[:, :, None]).sum(1) for state in states]
        return torch.stack(sums, dim=1) / frames[:, None, None].to(sums[0].dtype)

    @property
    def _least(self) -> int:
        """Samples that the first frame is made of."""
        samples, config = self.squeeze, self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The convolutions one by one, the embedding, the model's layers one by one, the norm
        behind them."""
        stem, trunk = self.model.feature_extractor.conv_layers, getattr(self.model.encoder, "layers", [])
        last = (
            list(self.model.encoder.layer_norm.parameters())
            if getattr(self.model.config, "do_stable_layer_norm", False)
            else []
        )
        known = {id(parameter) for layer in [*stem, *trunk] for parameter in layer.parameters()} | {
            id(parameter) for parameter in last
        }
        embedding = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        groups = (
            [list(layer.parameters()) for layer in stem]
            + [embedding]
            + [list(layer.parameters()) for layer in trunk]
            + [last]
        )
        return [group for group in groups if group]
