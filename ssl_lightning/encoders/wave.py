"""wav2vec 2.0's encoder: convolutions over a wave, then a transformer over their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.masks.tokens import lengths
from ..nn.transformer import NormPlace, Transformer
from ..plugins.arguments import require
from ..types import Tokens, View
from .base import WaveEncoder, pooled

Size = Literal["tiny", "small", "base", "large"]
SIZES: dict[str, tuple[int, int, int, int]] = {
    "tiny": (96, 128, 2, 4),
    "small": (256, 256, 6, 4),
    "base": (512, 768, 12, 12),
    "large": (512, 1024, 24, 16),
}
"""Feature maps, width, blocks and heads; the larger two are the paper's (arXiv 2006.11477, Section
4.2)."""
POSITIONS, GROUPS = 128, 16
"""Width and groups of the convolution that gives tokens their positions (Section 4.2)."""


class WaveTransformer(WaveEncoder):
    """Convolutions turn a wave into a token for each 20 ms, and a transformer, whose positions are
    a convolution too, into contextual tokens (Baevski, Zhou, Mohamed and Auli 2020, wav2vec 2.0,
    arXiv 2006.11477, Sections 2 and 4.2).

    A recording that is shorter than its row gives the same tokens as alone: a token is real if all
    of its samples are.

    Args:
        size: "tiny" to "large": defaults of maps, dim, depth and heads.
        maps: P, feature maps of every convolution.
        dim, depth, heads: width of a contextual token, number of blocks, and heads of their
            attention.
        kernels: lengths of the convolutions, in outputs of the one before.
        strides: their strides, whose product is the samples from one token to the next: 320 are 20
            ms at 16 kHz.
        stem: "layer" normalises the maps of each position after every convolution (large); "group"
            normalises each map over a recording, after the first convolution alone (base).
        norm: "pre" (large) or "post" (base), as `Transformer`.
        dropout: of the embedded tokens, of attention weights, and of what attention and MLP add.
        std: of the blocks' first weights, the paper's 0.02, for a width of 768; None: by Xavier's
            rule, with which narrow ones learn faster.

    Raises:
        ValueError: an argument is out of range; in `stem`, the waves are too short for a token.
    """

    reads_padding = True
    takes_subsets = False

    def __init__(
        self,
        *,
        size: Size = "small",
        maps: int | None = None,
        dim: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2),
        strides: Sequence[int] = (5, 2, 2, 2, 2, 2, 2),
        stem: Literal["layer", "group"] = "layer",
        norm: NormPlace = "pre",
        dropout: float = 0.1,
        std: float | None = 0.02,
    ) -> None:
        super().__init__()
        if size not in get_args(Size) or stem not in ("layer", "group"):
            raise ValueError(
                f"WaveTransformer(size={size!r}, stem={stem!r}): choose a size of {', '.join(SIZES)}, and layer or"
                " group."
            )
        pairs = list(zip(kernels, strides, strict=False))
        if len(kernels) != len(strides) or not pairs or any(not 1 <= stride <= kernel for kernel, stride in pairs):
            raise ValueError(
                f"WaveTransformer(kernels={list(kernels)}, strides={list(strides)}) must be as many of each, and every"
                " stride at least 1 and at most its kernel."
            )
        default_maps, default_dim, default_depth, default_heads = SIZES[size]
        self.features_dim = self.resolve("maps", default_maps if maps is None else maps)
        self.dim = self.resolve("dim", default_dim if dim is None else dim)
        require(self, at_least=1, maps=maps, dim=dim)
        require(self, at_least=0, std=std)
        if self.dim % GROUPS:
            raise ValueError(f"WaveTransformer(dim={dim}) must be a multiple of {GROUPS}.")
        self.kernels, self.strides = tuple(kernels), tuple(strides)
        self.hop = self.content_dim = int(torch.tensor(strides).prod())
        self.convolutions = nn.Sequential(
            *(
                _Convolution(
                    1 if index == 0 else self.features_dim, self.features_dim, kernel, stride, _norm(stem, index)
                )
                for index, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
            )
        )
        self.features_norm, self.project = (
            nn.LayerNorm(self.features_dim, eps=1e-6),
            nn.Linear(self.features_dim, self.dim),
        )
        self.positions = _Positions(self.dim)
        self.first_norm = nn.LayerNorm(self.dim, eps=1e-6) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.trunk = Transformer(
            self.dim,
            self.resolve("depth", default_depth if depth is None else depth),
            self.resolve("heads", default_heads if heads is None else heads),
            norm=norm,
            dropout=dropout,
            std=std,
        )

    def forward(self, view: View) -> Tensor:
        """Waves [S, T] -> features [S, dim], the mean of the contextual tokens."""
        tokens = self.tokenize(view)
        return pooled(self.mix(tokens), tokens)

    def layer_features(self, view: View) -> Tensor:
        tokens = self.tokenize(view)
        states = self.trunk.states(self._placed(tokens), tokens.segment)
        return torch.stack([pooled(state, tokens) for state in states], dim=1)

    def stem(self, view: View) -> Tokens:
        """Waves [S, T] -> features of the convolutions [S, N, P], without a norm; 0 in padding."""
        if view.x.ndim != 2 or not view.x.is_floating_point():
            raise ValueError(
                f"WaveTransformer takes waves [S, T], got {view.x.dtype} of shape {tuple(view.x.shape)}; data of sound"
                " gives them with --data.features wave."
            )
        length = None if view.segment is None else lengths(view)
        x = view.x[:, :, None]  # [S, T, 1]
        if self.tokens(x.shape[1]) < 1:
            raise ValueError(
                f"WaveTransformer makes its first token of {self.receptive_field} samples, got waves of {x.shape[1]}."
            )
        for convolution, kernel, stride in zip(self.convolutions, self.kernels, self.strides, strict=True):
            length = None if length is None else (length - kernel) // stride + 1
            x = convolution(x, length)
        if length is None:
            return Tokens(x)
        position = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        real = position < length[:, None].clamp(min=1)  # a recording too short for a token has one
        sample = torch.arange(1, x.shape[0] + 1, device=x.device)[:, None]
        return Tokens(x * real[:, :, None], real * sample, position)

    def normed(self, features: Tokens) -> Tokens:
        return features._replace(x=self.features_norm(features.x))

    def embed(self, features: Tokens) -> Tokens:
        return features._replace(x=self.dropout(self.project(features.x)))

    def mix(self, tokens: Tokens) -> Tensor:
        """Embedded tokens [S, N, dim], in their order -> contextual tokens [S, N, dim]."""
        mixed: Tensor = self.trunk(self._placed(tokens), tokens.segment)
        return mixed

    def _placed(self, tokens: Tokens) -> Tensor:
        x = tokens.x if tokens.segment is None else tokens.x * (tokens.segment > 0)[:, :, None]
        placed: Tensor = self.dropout(self.first_norm(x + self.positions(x)))
        return placed

    def content(self, view: View) -> Tensor:
        """The samples from each token to the next, [S, N, hop]."""
        count = self.tokens(view.x.shape[1])
        return view.x[:, : count * self.hop].unflatten(1, (count, self.hop))

    def restore(self, content: Tensor, view: View) -> Tensor:
        """Samples [S, N, hop] -> waves [S, T]; the rest at the end is the view's."""
        wave = content.flatten(1)
        return torch.cat([wave, view.x[:, wave.shape[1] :].to(wave.dtype)], dim=1)

    def tokens(self, samples: int) -> int:
        """N of waves of T samples."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    @property
    def step(self) -> int:
        return self.hop

    @property
    def receptive_field(self) -> int:
        """Number of samples that a token depends on."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The convolutions one by one, the embedding, the blocks one by one, the last norm."""
        embedding = [self.features_norm, self.project, self.positions, self.first_norm]
        groups = [list(convolution.parameters()) for convolution in self.convolutions]
        groups += [[parameter for module in embedding for parameter in module.parameters()]]
        groups += [list(block.parameters()) for block in self.trunk.blocks]
        return [*groups, last] if (last := list(self.trunk.norm.parameters())) else groups


def _norm(stem: str, index: int) -> Literal["layer", "group", "none"]:
    if stem == "layer":
        return "layer"
    return "group" if index == 0 else "none"


class _Convolution(nn.Module):
    """A convolution over time, a norm, and a GELU: [S, N, C] -> [S, N', P]; `lengths` [S] are the
    numbers of its real outputs."""

    def __init__(
        self, channels: int, maps: int, kernel: int, stride: int, norm: Literal["layer", "group", "none"]
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.convolution = nn.Conv1d(channels, maps, kernel, stride, bias=norm == "layer")
        nn.init.kaiming_normal_(self.convolution.weight)
        self.norm = nn.LayerNorm(maps) if norm == "layer" else _OverTime(maps) if norm == "group" else None

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = self.by_kernel(x) if x.is_cuda else self.by_windows(x)
        if isinstance(self.norm, nn.LayerNorm):
            x = self.norm(x)
        elif self.norm is not None:
            x = self.norm(x, lengths)
        return F.gelu(x)

    def by_windows(self, x: Tensor) -> Tensor:
        """The convolution as windows times a matrix: on a CPU three times as fast as `conv1d` with
        the transpositions that its norm needs."""
        last = x.shape[1] - self.kernel + 1
        shifted = [x[:, start : start + last : self.stride] for start in range(self.kernel)]
        windows = torch.cat(shifted, dim=2)  # [S, N', k C]
        return F.linear(windows, self.convolution.weight.mT.flatten(1), self.convolution.bias)

    def by_kernel(self, x: Tensor) -> Tensor:
        """The convolution by cuDNN, which stores no windows, `kernel / stride` times the size of
        x. As an image of one row with its channels last, x needs no transposition."""
        image = x.mT[:, :, None]  # [S, C, 1, N]
        out = F.conv2d(image, self.convolution.weight[:, :, None], self.convolution.bias, (1, self.stride))
        return out[:, :, 0].mT


class _OverTime(nn.Module):
    """Normalises each feature map over a recording without its padding: a group norm of one map a
    group."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        long = x.to(torch.promote_types(x.dtype, torch.float32))  # [S, N, P]
        if lengths is None:
            variance, mean = torch.var_mean(long, dim=1, keepdim=True, correction=0)
        else:
            real = torch.arange(x.shape[1], device=x.device) < lengths[:, None].clamp(min=1)  # [S, N]
            real = real[:, :, None].to(long.dtype)
            count = real.sum(1, keepdim=True)
            mean = (long * real).sum(1, keepdim=True) / count
            variance = ((long - mean).square() * real).sum(1, keepdim=True) / count
        return ((long - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias).to(x.dtype)


class _Positions(nn.Module):
    """Positions are computed from the neighbouring tokens: a wide convolution in groups, and a
    GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, dim, POSITIONS, padding=POSITIONS // 2, groups=GROUPS)
        nn.init.normal_(self.convolution.weight, std=2 * (1 / (POSITIONS * dim)) ** 0.5)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)
        nn.utils.parametrizations.weight_norm(self.convolution, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """[S, N, D] -> [S, N, D]."""
        convolution = self.convolution
        if x.dtype == torch.float16 and x.device.type == "cpu":
            # oneDNN's, in groups of one channel, does not return on processors with AVX512-FP16.
            weight, bias = convolution.weight.float(), convolution.bias
            wide = None if bias is None else bias.float()
            mixed = F.conv1d(x.mT.float(), weight, wide, padding=POSITIONS // 2, groups=GROUPS).to(x.dtype)
        else:
            mixed = convolution(x.mT)
        return F.gelu(mixed[:, :, :-1]).mT  # an even width gives one output more
