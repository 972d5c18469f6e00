"""The contracts of encoders: a view goes in, one vector (or one vector a token) comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..nn.masks.tokens import positions
from ..plugins.record import Recorded
from ..types import Tokens, View


class Encoder(Recorded, nn.Module, ABC):
    """Turns a view into one vector a sample.

    A subclass sets `dim`, the length of that vector, in `__init__`, and takes plain values only
    (numbers, strings, lists, other encoders), so that a checkpoint can rebuild it.
    """

    dim: int
    reads_padding: bool = False
    """Whether `View.segment` is heeded: padding then changes no feature."""
    reads: ClassVar[str] = "views that it was built for"
    """What a view holds that this kind of encoder takes, for messages."""
    suited_data: ClassVar[dict[str, Any]] = {}
    """Datamodule arguments this encoder needs, used as defaults."""
    follows_data: ClassVar[tuple[str, ...]] = (
        "kernels",
        "strides",
        "channels",
        "image_size",
        "vocab_size",
        "max_length",
        "mels",
    )
    """Constructor arguments that the command line takes from the data's default encoder, or else
    from the data's arguments of the same name, where nobody says otherwise."""

    @abstractmethod
    def forward(self, view: View) -> Tensor:
        """View of S samples -> features [S, dim]."""

    def layer_features(self, view: View) -> Tensor:
        """View of S samples -> one vector for each layer, from the input to the output, [S, L,
        dim]: for a probe that weighs them."""
        raise NotImplementedError(f"{type(self).__name__} does not give its layers one by one.")

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters layer by layer, from the input to the output, for learning rates that fall
        with the depth.

        By default each child module is a layer, in the order in which they were assigned; of an
        `nn.Sequential` or `nn.ModuleList` each of its children. Parameters that belong to no child
        come with the first layer. What an encoder leaves out learns at the rate of the head.
        """
        opened = [
            list(child) if isinstance(child, nn.Sequential | nn.ModuleList) else [child] for child in self.children()
        ]
        children = [list(child.parameters()) for group in opened for child in group]
        first, *rest = [layer for layer in children if layer] or [[]]
        return [[*self.parameters(recurse=False), *first], *rest]


class TokenEncoder(Encoder):
    """An encoder in two halves, so that a method can mask in between (MAE, wav2vec 2.0) or before
    (BERT)."""

    reads = "views that are cut into tokens, such as images"

    prefix: int = 0
    """Leading tokens of `tokenize` that stand for no place of the input (a class token, registers);
    a method keeps them visible."""
    takes_subsets: bool = True
    """Whether `mix` takes some of the tokens of a row, in any order, as it takes all of them."""
    causal: bool = False
    """Whether a contextual token follows from the tokens up to it alone, in the order of
    `tokenize`, so that later ones can be predicted."""
    content_dim: int
    """P, the numbers that `content` gives for a token."""

    @abstractmethod
    def tokenize(self, view: View) -> Tokens:
        """View -> embedded tokens [B, prefix + N, D], positions added."""

    @abstractmethod
    def mix(self, tokens: Tokens) -> Tensor:
        """Tokens (all, or a subset of each row) -> contextual tokens [B, as many, dim]."""

    @abstractmethod
    def content(self, view: View) -> Tensor:
        """What each token behind the prefix stands for: [B, N, P] pixels of its patch, mel bins, or
        ids."""

    def grid(self, view: View) -> tuple[int, ...]:
        """Tokens along each axis of the input, whose product is N: rows and columns of patches;
        (N,) for a sequence."""
        return (self.content(view).shape[1],)

    def restore(self, content: Tensor, view: View) -> Tensor:
        """The inverse of `content`: [B, N, P] -> a tensor of the shape of `view.x`, to look at or
        to listen to."""
        raise NotImplementedError(f"{type(self).__name__} does not say how content becomes a view again.")


class SequenceEncoder(TokenEncoder):
    """A token encoder whose tokens follow each other in time, one row a sample: time is the first
    axis of `grid`. Where the view marks padding, `tokenize` does so too, in `segment`."""

    reads = "what follows time, such as log-mels of sound"


class WaveEncoder(SequenceEncoder):
    """An encoder of waves [S, T], in three parts: what `stem` finds in each place by itself is
    normed, then embedded (`tokenize`), and put into context (`mix`). A method may hide tokens
    before they are embedded, and predict what the stem found there."""

    reads = "waves"
    suited_data: ClassVar = {"features": "wave"}
    features_dim: int
    """P, the numbers that the stem gives for a token."""

    @abstractmethod
    def stem(self, view: View) -> Tokens:
        """Waves [S, T] -> what is found in each place by itself, [S, N, P], without a norm."""

    @abstractmethod
    def normed(self, features: Tokens) -> Tokens:
        """[S, N, P] -> [S, N, P]."""

    @abstractmethod
    def embed(self, features: Tokens) -> Tokens:
        """Normed features [S, N, P] -> embedded tokens [S, N, D]; positions may come in `mix`."""

    def tokenize(self, view: View) -> Tokens:
        return self.embed(self.normed(self.stem(view)))


class TextEncoder(TokenEncoder):
    """An encoder of token ids [B, N]. `tokenize` embeds them, `content` gives the ids themselves,
    [B, N, 1]."""

    reads = "texts"
    reads_padding = True
    norm_eps: float = 1e-6
    """What its norms add to the variance; the norm of a head on top does the same."""

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The table of the vocabulary's tokens [V, D], D often `dim`, to which a projection back
        onto the vocabulary may be tied."""


def pooled(tokens: Tensor, view: View | Tokens, first: bool = False) -> Tensor:
    """Contextual tokens [B, N, D] of a view -> one vector a sample [S, D]: the mean of its tokens,
    or its first one."""
    if view.segment is None:
        return tokens[:, 0] if first else tokens.mean(dim=1)
    samples = len(tokens) if view.samples is None else view.samples
    place = torch.where(positions(view) == 0, view.segment, 0) if first else view.segment
    flat = tokens.flatten(0, 1).to(torch.promote_types(tokens.dtype, torch.float32))
    summed = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)  # the last number counts
    total = summed.new_zeros(samples + 1, summed.shape[1]).index_add_(0, place.flatten(), summed)[1:]
    return (total[:, :-1] / total[:, -1:].clamp(min=1)).to(tokens.dtype)
