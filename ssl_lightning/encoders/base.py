"""The contracts of encoders, which turn a view into one vector a sample, or one a token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..nn.initial import start
from ..nn.masks.tokens import positions
from ..plugins.record import Recorded
from ..types import Tokens, View


class Encoder(Recorded, nn.Module, ABC):
    """An encoder turns a view into one vector a sample.

    A subclass sets `dim`, the length of that vector, in `__init__`, and takes plain values only
    (numbers, strings, lists, other encoders), so that a checkpoint can rebuild it.
    """

    dim: int
    taught: bool = False
    """Whether the weights are not the constructor's: they were loaded, or trained before."""
    reads_padding: bool = False
    """Whether the encoder reads `View.segment`, so that padding changes no feature."""
    entries: ClassVar[tuple[str, ...]] = ("forward",)
    """The functions of a view or of tokens that a method calls: what is compiled."""
    reads: ClassVar[str] = "views that it was built for"
    """What a view holds that this kind of encoder takes, for messages."""
    weighs_layers: ClassVar[bool] = True
    """Whether a closing table has a row on a weighted sum of the layers too, where the encoder
    gives their features (`layer_features`)."""
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

    def adapt(self, weights: dict[str, Tensor], other: Encoder) -> dict[str, Tensor]:
        """Adapts the weights of an encoder like this one, which may have been built for views of
        another size, to this one's sizes; by default they stay as they are.

        Args:
            weights: of `other`, by name.
            other: the encoder that they are of.
        """
        return weights

    def layer_features(self, view: View) -> Tensor:
        """View of S samples -> one vector for each layer, from the input to the output, [S, L,
        dim]: for a probe that weighs them."""
        raise NotImplementedError(f"{type(self).__name__} does not give the features of each layer.")

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.taught = True

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters layer by layer, from the input to the output, for learning rates that fall
        with the depth.

        By default each child module is a layer, in the order in which they were assigned; of an
        `nn.Sequential` or `nn.ModuleList` each of its children. Parameters that belong to no child
        come with the first layer. A parameter that is in no layer learns at the rate of the head, a
        layer of nothing but norms at that of the layer before it.
        """
        opened = [
            list(child) if isinstance(child, nn.Sequential | nn.ModuleList) else [child] for child in self.children()
        ]
        children = [list(child.parameters()) for group in opened for child in group]
        first, *rest = [layer for layer in children if layer] or [[]]
        return [[*self.parameters(recurse=False), *first], *rest]


def comes_pretrained(encoder: Encoder) -> bool:
    """Whether the argument `pretrained` of an encoder, or of one inside of it, asks for published
    weights."""
    parts = [each for each in encoder.modules() if isinstance(each, Encoder)]
    return any(getattr(each, "init_args", {}).get("pretrained") for each in parts)


def starts_taught(encoder: Encoder) -> bool:
    """Whether an encoder, or one inside of it, has weights that something has learned: published
    ones, or others that were loaded, or trained before."""
    parts = [each for each in encoder.modules() if isinstance(each, Encoder)]
    return comes_pretrained(encoder) or any(each.taught for each in parts)


class NotRestorable(NotImplementedError):
    """An encoder does not define `TokenEncoder.restore`, so that its tokens are no picture."""


class TokenEncoder(Encoder):
    """A token encoder has two halves, so that a method can mask between them (MAE, wav2vec 2.0) or
    before them (BERT)."""

    entries: ClassVar[tuple[str, ...]] = ("forward", "tokenize", "mix")
    reads = "views that are cut into tokens, such as images"

    prefix: int = 0
    """Leading tokens of `tokenize` that stand for no part of the input (a class token, registers);
    a method keeps them visible."""
    takes_subsets: bool = True
    """Whether `mix` takes a subset of the tokens of a row, in any order."""
    causal: bool = False
    """Whether a contextual token depends on the tokens up to it alone, in the order of `tokenize`,
    so that later ones can be predicted."""
    content_dim: int
    """P, length of a token's `content`."""

    @abstractmethod
    def tokenize(self, view: View) -> Tokens:
        """View -> embedded tokens [B, prefix + N, D], positions added."""

    @abstractmethod
    def mix(self, tokens: Tokens) -> Tensor:
        """Tokens (all, or a subset of each row) -> contextual tokens [B, as many, dim]."""

    @abstractmethod
    def content(self, view: View) -> Tensor:
        """The part of the input that each token behind the prefix stands for, [B, N, P]: pixels of
        its patch, mel bins, or ids."""

    def grid(self, view: View) -> tuple[int, ...]:
        """Number of tokens along each axis of the input, whose product is N: rows and columns of
        patches; (N,) for a sequence."""
        return (self.content(view).shape[1],)

    def restore(self, content: Tensor, view: View) -> Tensor:
        """The inverse of `content`: [B, N, P] -> a tensor of the shape of `view.x`, to look at or
        to listen to."""
        raise NotRestorable(f"{type(self).__name__} does not define `restore`, from content to a view.")


class SequenceEncoder(TokenEncoder):
    """A sequence encoder is a token encoder whose tokens follow each other in time, one row a
    sample: time is the first axis of `grid`. Where the view marks padding, `tokenize` does so too,
    in `segment`."""

    reads = "what follows time, such as log-mels of sound"

    @property
    def step(self) -> int | None:
        """Positions of the view's last axis from a token to the next, the first of which begins
        with the view; None: that is not known."""
        return None


class WaveEncoder(SequenceEncoder):
    """A wave encoder has three parts: `stem` turns waves [S, T] into features of each position by
    itself, which are normalised, then embedded (`tokenize`), and put into context (`mix`). A method
    may hide tokens after they are embedded, and predict the stem's features."""

    entries: ClassVar[tuple[str, ...]] = ("forward", "stem", "normed", "embed", "mix")
    reads = "waves"
    suited_data: ClassVar = {"features": "wave"}
    features_dim: int
    """P, length of a token's features from the stem."""

    @abstractmethod
    def stem(self, view: View) -> Tokens:
        """Waves [S, T] -> features of each position by itself, [S, N, P], without a norm."""

    @abstractmethod
    def normed(self, features: Tokens) -> Tokens:
        """[S, N, P] -> [S, N, P]."""

    @abstractmethod
    def embed(self, features: Tokens) -> Tokens:
        """Normed features [S, N, P] -> embedded tokens [S, N, D]; positions may come in `mix`."""

    def tokenize(self, view: View) -> Tokens:
        return self.embed(self.normed(self.stem(view)))


class PredictionHead(NamedTuple):
    """What turns contextual tokens into scores of the vocabulary, on the encoder's table of tokens.

    Args:
        layers: a linear layer, GELU and a norm, [..., dim] -> [..., D].
        bias: [V] of the scores.
    """

    layers: nn.Sequential
    bias: Tensor


class TextEncoder(TokenEncoder):
    """A text encoder reads token ids [B, N]: `tokenize` embeds them, `content` gives the ids, [B,
    N, 1]."""

    reads = "texts"
    reads_padding = True
    norm_eps: float = 1e-6
    """What its norms add to the variance, and the norm of a head on top."""

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The table of the vocabulary's tokens [V, D], D often `dim`, to which a projection back
        onto the vocabulary may be tied."""

    def pretrained_head(self) -> PredictionHead | None:
        """Returns the prediction head that was published with the encoder's weights, for a method
        that goes on from them; None: there is none."""
        return None


def prediction_head(encoder: TextEncoder) -> PredictionHead:
    """Returns the head that was published with an encoder's weights, or BERT's with new ones
    (Devlin et al. 2018, arXiv 1810.04805; the layers are in the authors' code)."""
    tokens, dim = encoder.embedding.weight.shape
    layers = nn.Sequential(
        start(nn.Linear(encoder.dim, dim), std=0.02), nn.GELU(), nn.LayerNorm(dim, eps=encoder.norm_eps)
    )
    return encoder.pretrained_head() or PredictionHead(layers, torch.zeros(tokens))


def pooled(tokens: Tensor, view: View | Tokens, first: bool = False) -> Tensor:
    """Pools contextual tokens [B, N, D] of a view into one vector a sample [S, D]: the mean of its
    tokens, or its first one."""
    if view.segment is None:
        return tokens[:, 0] if first else tokens.mean(dim=1)
    samples = tokens.shape[0] if view.samples is None else view.samples  # not `len`, which an exported graph fixes
    segment = torch.where(positions(view) == 0, view.segment, 0) if first else view.segment
    flat = tokens.flatten(0, 1).to(torch.promote_types(tokens.dtype, torch.float32))
    summed = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)  # the last column counts
    total = summed.new_zeros(samples + 1, summed.shape[1]).index_add_(0, segment.flatten(), summed)[1:]
    return (total[:, :-1] / total[:, -1:].clamp(min=1)).to(tokens.dtype)
