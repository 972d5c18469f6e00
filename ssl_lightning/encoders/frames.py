"""A transformer over the frames of a spectrogram."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.positions import GridPositions
from ..nn.transformer import Transformer
from ..plugins.arguments import require
from ..types import Tokens, View
from .base import SequenceEncoder, pooled


class FrameTransformer(SequenceEncoder):
    """A transformer whose tokens are a few frames of a spectrogram, with all their bands (after Liu
    et al. 2020, Mockingjay, arXiv 1910.12638, Section 2.1).

    Positions are fixed sines and cosines, added in `tokenize`. Frames that do not fill a token at
    the end of a row are not used. A token with a frame of padding is padding: no other token
    attends to it, and the mean over the sample's tokens leaves it out.

    Args:
        mels: M, bands of the log-mels.
        frames_per_token: number of frames of a token.
        dim: width of a token, a multiple of 2 and of `heads`.
        depth: number of blocks.
        heads: of their attention.
        causal: whether a token attends to itself and those before it alone.

    Raises:
        ValueError: an argument does not fit; in `tokenize` and `content`, the view is not log-mels
            of `mels` bands, or is too short.
    """

    reads_padding = True

    def __init__(
        self,
        *,
        mels: int = 64,
        frames_per_token: int = 2,
        dim: int = 192,
        depth: int = 4,
        heads: int = 4,
        causal: bool = False,
    ) -> None:
        super().__init__()
        require(self, at_least=1, mels=mels, frames_per_token=frames_per_token)
        if dim < 2 or dim % 2:
            raise ValueError(f"FrameTransformer(dim={dim}) must be a multiple of 2, and at least 2.")
        self.mels, self.frames_per_token, self.dim, self.causal = mels, frames_per_token, dim, causal
        self.content_dim = frames_per_token * mels
        self.embed = nn.Linear(self.content_dim, dim)
        self.positions = GridPositions(dim)
        self.trunk = Transformer(dim, depth, heads, causal=causal)

    @property
    def step(self) -> int:
        return self.frames_per_token

    def forward(self, view: View) -> Tensor:
        """Log-mels [S, 1, M, F] -> features [S, dim]."""
        tokens = self.tokenize(view)
        return pooled(self.mix(tokens), tokens)

    def layer_features(self, view: View) -> Tensor:
        tokens = self.tokenize(view)
        return torch.stack([pooled(state, tokens) for state in self.trunk.states(*tokens)], dim=1)

    def tokenize(self, view: View) -> Tokens:
        """Log-mels [S, 1, M, F] -> embedded tokens [S, N, dim]."""
        x = self.embed(self.content(view))
        k, n = self.frames_per_token, x.shape[1]
        segment = None
        if view.segment is not None:
            frames = view.segment[:, : n * k].unflatten(1, (n, k))
            segment = torch.where((frames == frames[:, :, :1]).all(dim=2), frames[:, :, 0], 0)
        return Tokens(x + self.positions((n,)), segment, None, view.samples)

    def mix(self, tokens: Tokens) -> Tensor:
        """Tokens, all or a subset of each row -> as many contextual tokens."""
        mixed: Tensor = self.trunk(*tokens)
        return mixed

    def content(self, view: View) -> Tensor:
        """The log-mels of each token [S, N, k * M], frame by frame."""
        x, k = view.x, self.frames_per_token
        if x.ndim != 4 or x.shape[1:3] != (1, self.mels) or x.shape[3] < k:
            raise ValueError(
                f"FrameTransformer takes log-mels [S, 1, {self.mels}, F] of at least {k} frames, got {list(x.shape)}: "
                "set --model.encoder.mels to the bands, and --data.features log_mel."
            )
        frames = x[:, 0].mT  # [S, F, M]
        return frames[:, : frames.shape[1] // k * k].unflatten(1, (-1, k)).flatten(2)

    def restore(self, content: Tensor, view: View) -> Tensor:
        """Log-mels of tokens [S, N, k * M] -> a spectrogram [S, 1, M, F]; 0 for frames that belong
        to no token."""
        frames = content.unflatten(2, (self.frames_per_token, self.mels)).flatten(1, 2)  # [S, N * k, M]
        return F.pad(frames.mT, (0, view.x.shape[3] - frames.shape[1]))[:, None]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The embedding, the blocks one by one, the last norm."""
        return [list(layer.parameters()) for layer in (self.embed, *self.trunk.blocks, self.trunk.norm)]
