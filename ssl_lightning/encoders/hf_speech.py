"""Speech encoders of Hugging Face transformers that read waves, so that published weights can be
probed and fine-tuned."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.masks.tokens import lengths
from ..types import View
from .base import Encoder
from .transformers_model import OfTransformers, config_of_model, library, model_of

NEVER = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "add_adapter": False,
}
"""Settings that are off in every config: masks drawn by numpy's generator, layers dropped at
random, the adapter to a decoder."""

MASKING = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
"""Families whose features do not depend on masked padding where their stem's norms are "layer";
those of data2vec do, through its convolutions for positions."""


class HuggingFaceSpeech(OfTransformers, Encoder):
    """A speech encoder of transformers (Wolf et al. 2019, arXiv 1910.03771): wav2vec 2.0, HuBERT,
    WavLM, data2vec, SEW, UniSpeech, ...

    Features are the mean of the model's real frames. The features of most models depend on padding,
    such as those with norms over time in their stem (`feat_extract_norm` "group"), so recordings of
    each length are encoded separately; those of the other models together, with a mask.

    The data needs the model's rate, mostly 16 kHz, `--data.sample_rate`; `do_normalize` in the
    model's `preprocessor_config.json` says whether it takes waves of mean 0 and variance 1
    (`--data.normalise`).

    Args:
        name: of a model on the hub (`facebook/hubert-base-ls960`), or the folder of one.
        pretrained: whether to start from its weights, downloaded once. Off when a checkpoint
            rebuilds the encoder.
        config: content of the model's `config.json`; None: read from `name`. A checkpoint holds it,
            and so needs no folder.

    Raises:
        ValueError: transformers is not installed; there is no such model, it does not read waves,
            or it cannot be downloaded; in `forward`, the view is not a wave.
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
                f"HuggingFaceSpeech({name!r}): a {settings.model_type} is not an encoder of waves; choose one such as"
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
        """Means of the embedded frames, and of those after each layer, the last ones normalised as
        in `forward`: [S, L, dim]."""
        return self._pooled(view, every=True)

    def _pooled(self, view: View, every: bool) -> Tensor:
        if view.x.ndim != 2 or not view.x.is_floating_point():
            raise ValueError(
                f"HuggingFaceSpeech takes waves [S, T], got {view.x.dtype} of shape {tuple(view.x.shape)}; data of"
                " sound gives them with --data.features wave."
            )
        if len(view.x) == 0:  # which transformers refuses
            return view.x.new_zeros(0, self.model.config.num_hidden_layers + 1 if every else 1, self.dim)
        least, wave = self._least, view.x if view.segment is None else view.x * (view.segment > 0)
        x = F.pad(wave, (0, max(0, least - wave.shape[1])))
        if view.segment is None:
            return self._read(x, None, every)
        length = lengths(view).clamp(min=least)  # a recording too short for a frame has one
        if not self.by_length:
            return self._read(x, length, every)
        ordered, order = length.sort(stable=True)
        counts = Counter(ordered.tolist())  # the host waits once: each length is a batch of its own
        parts = zip(x[order].split(list(counts.values())), counts, strict=True)
        means = [self._read(part[:, :samples].contiguous(), None, every) for part, samples in parts]
        return torch.cat(means)[order.argsort()]

    def _read(self, x: Tensor, length: Tensor | None, every: bool) -> Tensor:
        """Waves [S, T], and the number of real samples of each -> means over real frames [S, L or
        1, dim]."""
        mask = None if length is None else (torch.arange(x.shape[1], device=x.device) < length[:, None]).long()
        out = self.model(x, attention_mask=mask, output_hidden_states=every)
        states = [*out.hidden_states[:-1], out.last_hidden_state] if every else [out.last_hidden_state]
        if length is None:
            return torch.stack([state.mean(1) for state in states], dim=1)
        frames = self.model._get_feat_extract_output_lengths(length)
        real = torch.arange(states[-1].shape[1], device=x.device) < frames[:, None]  # [S, N]
        sums = [(state * real[:, :, None]).sum(1) for state in states]
        return torch.stack(sums, dim=1) / frames[:, None, None].to(sums[0].dtype)

    @property
    def _least(self) -> int:
        """Number of samples that the first frame depends on."""
        samples, config = self.squeeze, self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The convolutions one by one, the embedding, the model's layers one by one, the norm
        behind them."""
        stem, trunk = self.model.feature_extractor.conv_layers, getattr(self.model.encoder, "layers", [])
        pre_norm = getattr(self.model.config, "do_stable_layer_norm", False)
        last = list(self.model.encoder.layer_norm.parameters()) if pre_norm else []
        convolutions, layers = ([list(layer.parameters()) for layer in part] for part in (stem, trunk))
        known = {id(parameter) for group in (*convolutions, *layers, last) for parameter in group}
        embedding = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        return [group for group in (*convolutions, embedding, *layers, last) if group]
