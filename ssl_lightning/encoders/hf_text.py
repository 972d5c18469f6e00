"""Text encoders of Hugging Face transformers, so that pretraining continues from published
weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.masks.tokens import positions
from ..types import Tokens, View
from .base import PredictionHead, TextEncoder, pooled
from .hf_head import published_head
from .transformers_model import OfTransformers, config_of_model, library, model_of, tokenizer_of


class HuggingFaceText(OfTransformers, TextEncoder):
    """A text encoder of transformers (Wolf et al. 2019, arXiv 1910.03771): BERT, RoBERTa,
    DistilBERT, ModernBERT, ELECTRA, ...

    Its families differ in how they count positions, whether these are in the embeddings or in the
    attention, and which masks they take. So `mix` puts each sample into a separate row, which all
    of them support; positions are added there. The data needs the model's tokenizer, which the
    command line gives it; in Python, pass `tokenizer` the folder that holds its `tokenizer.json`.

    Args:
        name: of a model on the hub (`google-bert/bert-base-uncased`), or the folder of one.
        pretrained: whether to start from its weights, downloaded once. Off when a checkpoint
            rebuilds the encoder.
        pooling: the vector of a sample: "mean" of its tokens, or "first", that of [CLS].
        config: content of the model's `config.json`; None: read from `name`. A checkpoint holds it,
            and so needs no folder.

    Raises:
        ValueError: transformers is not installed; there is no such model, it is not a text encoder,
            or it cannot be downloaded; in `tokenize`, the samples are longer than the model takes.
    """

    content_dim = 1
    weighs_layers = False

    @classmethod
    def data_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Returns the datamodule's arguments that suit an encoder built with these: the model's
        tokenizer, where it has one."""
        name = init_args.get("name")
        tokenizer = tokenizer_of(name) if isinstance(name, str) else None
        return {} if tokenizer is None else {"tokenizer": tokenizer}

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = True,
        pooling: Literal["mean", "first"] = "mean",
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "first"):
            raise ValueError(f"HuggingFaceText(pooling={pooling!r}): choose mean or first.")
        auto = library("HuggingFaceText")
        config = config_of_model(name) if config is None else config
        settings = auto.AutoConfig.for_model(**config)
        if settings.is_encoder_decoder:
            raise ValueError(
                f"HuggingFaceText({name!r}): a {settings.model_type} also has a decoder; choose an encoder such as"
                " BERT."
            )
        self.model = model_of("HuggingFaceText", name, settings, pretrained, spare="pooler.")
        if not isinstance(self.model.get_input_embeddings(), nn.Embedding):
            raise ValueError(
                f"HuggingFaceText({name!r}): a {settings.model_type} does not read token ids; choose a text encoder."
            )
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # would stay without a gradient
        self.init_args["config"] = config
        self.pooling, self.dim = pooling, int(settings.hidden_size)
        self.norm_eps = next(
            (module.eps for module in self.model.modules() if isinstance(module, nn.LayerNorm)), self.norm_eps
        )
        self.max_length = _max_length(self.model)

    @property
    def embedding(self) -> nn.Embedding:
        table: nn.Embedding = self.model.get_input_embeddings()
        return table

    def forward(self, view: View) -> Tensor:
        """Token ids [B, N] -> features [S, dim]."""
        return pooled(self.mix(self.tokenize(view)), view, self.pooling == "first")

    def tokenize(self, view: View) -> Tokens:
        """Token ids [B, N] -> the vectors of the tokens [B, N, D], without positions."""
        if view.x.ndim != 2 or view.x.is_floating_point():
            raise ValueError(
                f"HuggingFaceText takes token ids [B, N], got {view.x.dtype} of shape {tuple(view.x.shape)}."
            )
        if self.max_length is not None and view.x.shape[1] > self.max_length:
            raise ValueError(
                f"HuggingFaceText: the model takes {self.max_length} tokens, got rows of {view.x.shape[1]}; set a"
                " shorter --data.row_length."
            )
        return Tokens(self.embedding(view.x), *view[1:])

    def mix(self, tokens: Tokens) -> Tensor:
        """Vectors of tokens [B, N, D] -> contextual tokens [B, N, dim]; padding gives zeros."""
        return self._states(tokens, every=False)[0]

    def layer_features(self, view: View) -> Tensor:
        """Pooled vectors of the embedded tokens, and of those after each layer: [S, L, dim]."""
        states = self._states(self.tokenize(view), every=True)
        return torch.stack([pooled(state, view, self.pooling == "first") for state in states], dim=1)

    def _states(self, tokens: Tokens, every: bool) -> list[Tensor]:
        """The last contextual tokens [B, N, dim], or those of every layer."""
        if tokens.segment is None:
            return self._read(tokens.x, None, every)
        samples = len(tokens.x) if tokens.samples is None else tokens.samples
        segment, position = tokens.segment, positions(View(*tokens))
        real = segment > 0
        # The host waits for this one number, since the model takes a row for each sample.
        longest = int(torch.where(real, position + 1, 0).max()) if real.numel() else 0
        if not longest:
            return self._nothing(tokens.x, every)
        place = (segment, position.clamp(max=longest - 1))  # row 0 takes the padding
        rows = tokens.x.new_zeros(samples + 1, longest, tokens.x.shape[2]).index_put(place, tokens.x)[1:]
        mask = torch.zeros(samples + 1, longest, dtype=torch.bool, device=rows.device).index_put_(place, real)[1:]
        return [F.pad(state, (0, 0, 0, 0, 1, 0))[place] for state in self._read(rows, mask, every)]

    def _read(self, x: Tensor, mask: Tensor | None, every: bool) -> list[Tensor]:
        """Rows of one sample each [S, N, D], and which of their tokens are real -> [S, N, dim], of
        the last layer or of every one."""
        if x.numel() == 0:  # which transformers refuses
            return self._nothing(x, every)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        out = self.model(inputs_embeds=x, attention_mask=mask, output_hidden_states=every)
        return [*out.hidden_states[:-1], out.last_hidden_state] if every else [out.last_hidden_state]

    def _nothing(self, x: Tensor, every: bool) -> list[Tensor]:
        """What rows [S, N, D] without a token give."""
        layers = self.model.config.num_hidden_layers + 1 if every else 1
        return [x.new_zeros(*x.shape[:2], self.dim) for _ in range(layers)]

    def content(self, view: View) -> Tensor:
        """The token ids [B, N, 1]."""
        return view.x[:, :, None]

    def pretrained_head(self) -> PredictionHead | None:
        """Returns the head of the masked language model that the weights are a part of, if they
        are; None where they come from a checkpoint, which holds the method's."""
        return published_head(self.init_args["name"]) if self.init_args.get("pretrained", True) else None

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters before the model's layers, the layers one by one, the parameters behind
        them; one group where layers share weights."""
        depth = self.model.config.num_hidden_layers
        lists = (
            module for module in self.model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth
        )
        layers = [list(layer.parameters()) for layer in next(lists, [])]
        number = {id(parameter): index for index, layer in enumerate(layers, 1) for parameter in layer}
        groups: list[list[nn.Parameter]] = [[] for _ in range(len(layers) + 2)]
        passed = False
        for parameter in self.model.parameters():
            passed |= id(parameter) in number
            groups[number.get(id(parameter), len(layers) + 1 if passed else 0)].append(parameter)
        return [group for group in groups if group]


def _max_length(model: Any) -> int | None:
    """Largest number of tokens of a sample; None where the model does not say."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa counts from there on
            return int(module.num_embeddings) - unused
    return getattr(model.config, "max_position_embeddings", None)
