"""A transformer over token ids."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..nn.masks.tokens import positions
from ..nn.transformer import Activation, NormPlace, Transformer
from ..plugins.arguments import require
from ..types import Tokens, View
from .base import TextEncoder, pooled

Size = Literal["tiny", "mini", "small", "medium", "base"]
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (128, 2, 2),
    "mini": (256, 4, 4),
    "small": (512, 4, 8),
    "medium": (512, 8, 8),
    "base": (768, 12, 12),
}
"""Width, blocks and heads (Turc et al. 2019, arXiv 1908.08962, Table 1)."""


class TextTransformer(TextEncoder):
    """BERT's encoder (Devlin et al. 2018, arXiv 1810.04805), by default with pre-norm blocks.

    Samples that share a row do not attend to each other, and each counts its own positions.

    Args:
        vocab_size: V, number of token ids.
        size: "tiny" to "base": defaults of dim, depth and heads.
        dim, depth, heads: width of a token, number of blocks, and heads of their attention.
        max_length: largest number of tokens in a row.
        position: "learned", a vector for each position, added to the token's; or "rotary", in the
            attention (arXiv 2104.09864).
        norm: "pre" or "post", as `Transformer`; BERT is "post".
        activation: "gelu" or "geglu".
        dropout: of the embedded tokens, of attention weights, and of what attention and MLP add.
        causal: whether a token attends to itself and those before it alone.
        pooling: the vector of a sample: "mean" of its tokens, or "first", that of [CLS].
        norm_eps: what norms add to the variance; 1e-12 in BERT's published weights.
        std: of the blocks' first weights, BERT's 0.02, for a width of 768; None: by Xavier's rule,
            with which narrow ones learn faster.

    Raises:
        ValueError: an argument is out of range; in `tokenize`, the rows are longer than
            `max_length`.
    """

    content_dim = 1
    weighs_layers = False

    def __init__(
        self,
        *,
        vocab_size: int = 8192,
        size: Size = "mini",
        dim: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        max_length: int = 512,
        position: Literal["learned", "rotary"] = "learned",
        norm: NormPlace = "pre",
        activation: Activation = "gelu",
        dropout: float = 0.1,
        causal: bool = False,
        pooling: Literal["mean", "first"] = "mean",
        norm_eps: float = 1e-6,
        std: float | None = 0.02,
    ) -> None:
        super().__init__()
        if size not in get_args(Size):
            raise ValueError(f"TextTransformer(size={size!r}) is unknown; choose from {', '.join(SIZES)}.")
        if position not in ("learned", "rotary") or pooling not in ("mean", "first"):
            raise ValueError(
                f"TextTransformer(position={position!r}, pooling={pooling!r}): choose learned or rotary, and mean or"
                " first."
            )
        require(self, at_least=1, vocab_size=vocab_size, max_length=max_length)
        require(self, at_least=0, norm_eps=norm_eps, std=std)
        default_dim, default_depth, default_heads = SIZES[size]
        self.dim = self.resolve("dim", default_dim if dim is None else dim)
        self.pooling, self.max_length, self.norm_eps = pooling, max_length, norm_eps
        self.trunk = Transformer(
            self.dim,
            self.resolve("depth", default_depth if depth is None else depth),
            self.resolve("heads", default_heads if heads is None else heads),
            norm=norm,
            activation=activation,
            dropout=dropout,
            rotary=position == "rotary",
            causal=causal,
            std=std,
        )
        self.words = nn.Embedding(vocab_size, self.dim)
        self.places = nn.Embedding(max_length, self.dim) if position == "learned" else None
        self.norm, self.dropout = nn.LayerNorm(self.dim, eps=1e-6), nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Embedding):  # BERT's code: 0.02 for all weights
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.LayerNorm):
                module.eps = norm_eps

    @property
    def embedding(self) -> nn.Embedding:
        return self.words

    def forward(self, view: View) -> Tensor:
        """Token ids [B, N] -> features [S, dim]."""
        return pooled(self.mix(self.tokenize(view)), view, self.pooling == "first")

    def tokenize(self, view: View) -> Tokens:
        """Token ids [B, N] -> embedded tokens [B, N, dim]."""
        if view.x.ndim != 2 or view.x.is_floating_point():
            raise ValueError(
                f"TextTransformer takes token ids [B, N], got {view.x.dtype} of shape {tuple(view.x.shape)}."
            )
        if view.x.shape[1] > self.max_length:
            raise ValueError(
                f"TextTransformer(max_length={self.max_length}) got rows of {view.x.shape[1]} tokens; set"
                " --model.encoder.max_length or a shorter --data.row_length."
            )
        x = self.words(view.x)
        if self.places is not None:
            x = x + self.places(positions(view))
        return Tokens(self.dropout(self.norm(x)), *view[1:])

    def mix(self, tokens: Tokens) -> Tensor:
        """Embedded tokens [B, N, dim] -> contextual tokens [B, N, dim]."""
        mixed: Tensor = self.trunk(*tokens)
        return mixed

    def layer_features(self, view: View) -> Tensor:
        tokens = self.tokenize(view)
        first = self.pooling == "first"
        return torch.stack([pooled(state, view, first) for state in self.trunk.states(*tokens)], dim=1)

    def content(self, view: View) -> Tensor:
        """The token ids [B, N, 1]."""
        return view.x[:, :, None]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Embeddings, the blocks one by one, the last norm."""
        embeddings = [self.words, self.norm, *([self.places] if self.places is not None else [])]
        groups = [[parameter for module in embeddings for parameter in module.parameters()]]
        groups += [list(block.parameters()) for block in self.trunk.blocks]
        return [*groups, last] if (last := list(self.trunk.norm.parameters())) else groups
