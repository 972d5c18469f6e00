"""The tokens of many samples on the host, of any number a sample, with a bound on their memory.

Notation for shapes: S samples in a batch, N tokens of the sample that has the most, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.peek import BATCH, evaluating, peek_each
from ...data.sources import Source
from ...data.views import full_precision
from ...encoders.as_tokens import as_token_encoder
from ...encoders.base import Encoder, SequenceEncoder, TokenEncoder
from ...nn.precision import cast
from ..use.tokens import tokens_of

IN_FLOAT32, IN_FLOAT16 = 2 * 2**30, 8 * 2**30
"""Bytes up to which tokens are kept in float32, and in float16; more are refused. Sizes alone
decide, so that a result does not depend on the machine."""


class TokenStore(Sequence[Tensor]):
    """A sequence of the tokens of samples, [n, D] each, float32.

    Args:
        parts: tokens of some samples, one after the other, [sum of n, D] each, float32 or float16.
        counts: the n of each sample, over all parts.
        grids: rows and columns of patches, or the like, of each sample; empty: they have none.
        times: of each sample the seconds [n] at the middle of its tokens; empty: they have none.
        device: where batches go.
    """

    def __init__(
        self,
        parts: Sequence[Tensor],
        counts: Sequence[int],
        grids: Sequence[tuple[int, ...]] = (),
        times: Sequence[Tensor] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.parts, self.device = list(parts), torch.device(device)
        self.grids, self.times = list(grids), list(times)
        self.counts = torch.as_tensor(list(counts), dtype=torch.int64)
        self.ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)  # [parts]
        self.starts = self.counts.cumsum(0) - self.counts  # [samples]
        if empty := int((self.counts == 0).sum()):
            raise ValueError(f"{empty:,} of {len(self.counts):,} samples have no tokens; leave them out.")

    @classmethod
    def of_samples(cls, tokens: Sequence[Tensor], **kwargs: Any) -> TokenStore:
        """The store of tokens [n, D] of each sample."""
        return cls([torch.cat(list(tokens))], [len(each) for each in tokens], **kwargs)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def dim(self) -> int:
        """D, the length of a token."""
        return self.parts[0].shape[1]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of results has to know."""
        half = self.parts[0].dtype == torch.float16
        return (f"Tokens were kept in float16, since {IN_FLOAT32 / 2**30:g} GiB do not hold them.",) * half

    def __getitem__(self, number: Any) -> Any:
        start, count = int(self.starts[number]), int(self.counts[number])
        part = int(torch.searchsorted(self.ends, start, right=True))
        first = start - int(self.ends[part]) + len(self.parts[part])
        return self.parts[part][first : first + count].float()

    def at(self, index: Tensor) -> TokenStore:
        """The store of some of the samples, which shares the memory of this one.

        Args:
            index: [M] which, in any order.
        """
        chosen = TokenStore(self.parts, self.counts[index].tolist(), device=self.device)
        chosen.starts = self.starts[index]
        chosen.grids = [self.grids[each] for each in index.tolist()] if self.grids else []
        chosen.times = [self.times[each] for each in index.tolist()] if self.times else []
        return chosen

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [S, N, D] of some samples, padded with 0, and which are real, [S, N] bool, on the
        device."""
        counts = self.counts[index]
        x = torch.zeros(len(index), int(counts.max()), self.dim)
        for row, number in enumerate(index.tolist()):
            x[row, : counts[row]] = self[number]
        real = torch.arange(x.shape[1]) < counts[:, None]
        return x.to(self.device), real.to(self.device)

    def flat(self, per_token: Sequence[Tensor] | None = None) -> Tensor:
        """All tokens one after the other [sum of n, D].

        Args:
            per_token: in place of the tokens, for each sample a tensor [n, ...].
        """
        return torch.cat([each.float() for each in self] if per_token is None else list(per_token))


def with_tokens(encoder: Encoder | None) -> TokenEncoder | None:
    """The encoder as one that has tokens; None where it has none, and for raw features."""
    try:
        return None if encoder is None else as_token_encoder(encoder)
    except ValueError:
        return None


@torch.no_grad()
def store_of(
    encoder: TokenEncoder, data: SSLDataModule, source: Source, index: Tensor, device: torch.device | str = "cpu"
) -> TokenStore:
    """Computes the contextual tokens of samples under the test transform, in eval mode and float32,
    without the encoder's prefix and without padding. Of a sample that is longer than a view, those
    of its windows follow one another.

    Args:
        encoder: that has tokens.
        data: the datamodule.
        source: the samples.
        index: [M] which of them.
        device: where the encoder computes, and where batches of the store go.

    Raises:
        ValueError: tokens are not finite, or there is no memory for them.
    """
    encoder.to(device)
    parts: list[Tensor] = []
    counts: list[int] = []
    grids: list[tuple[int, ...]] = []
    dtype, used = torch.float32, 0
    for tokens, grid in _batches(encoder, data, source, index, torch.device(device)):
        if not parts:
            width = sum(map(len, tokens)) / len(tokens) * tokens[0].shape[1]
            dtype = torch.float16 if 4 * width * len(index) > IN_FLOAT32 else torch.float32
            _check_room(2 * width * len(index), len(index))
        part = torch.cat(tokens).to("cpu", dtype)
        if broken := int((~part.isfinite()).any(dim=1).sum()):
            raise ValueError(
                f"{broken:,} of {len(part):,} tokens hold NaN, infinity, or more than {dtype} holds; has the encoder"
                " diverged?"
            )
        parts.append(part)
        used += part.numel()
        _check_room(2 * used, len(index))
        counts += [len(each) for each in tokens]
        grids += [grid] * len(tokens)
    windows = source.windows()
    whole, places = (source, index) if windows is None else (windows.source, windows.of(index)[0])
    step = encoder.step if isinstance(encoder, SequenceEncoder) else None
    times = [] if step is None else data.token_seconds(step, whole, places, counts)
    if windows is not None:
        split = windows.of(index)[1].tolist()
        ends = torch.tensor(split).cumsum(0).tolist()
        times = [torch.cat(times[end - count : end]) for end, count in zip(ends, split, strict=True)] if times else []
        counts, grids = [int(part.sum()) for part in torch.tensor(counts).split(split)], []
    return TokenStore(parts, counts, grids, times, device)


def _batches(
    encoder: TokenEncoder, data: SSLDataModule, source: Source, index: Tensor, device: torch.device
) -> Iterator[tuple[list[Tensor], tuple[int, ...]]]:
    """Yields the tokens of each sample, or window, of a batch, and their grid."""
    windows = source.windows()
    whole = source if windows is None else windows.source
    index = index if windows is None else windows.of(index)[0]
    with evaluating(encoder), full_precision(device):
        for batch in peek_each(data, whole, data.parts(whole, index, BATCH), device, data.clean_views()):
            view = cast(batch["views"][0], encoder)
            yield [each.float() for each in tokens_of(encoder, view)], encoder.grid(view)


def _check_room(size: float, samples: int) -> None:
    """Raises ValueError where tokens take too much memory, even in float16."""
    if size > IN_FLOAT16:
        fit = int(samples * IN_FLOAT16 / size)
        raise ValueError(
            f"The tokens of {samples:,} samples take {size / 2**30:,.1f} GiB in float16, and {IN_FLOAT16 / 2**30:g} GiB"
            f" are kept at most; give --train-samples and --test-samples of {fit:,} in all."
        )
