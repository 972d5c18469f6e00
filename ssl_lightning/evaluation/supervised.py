"""The base of methods that learn from labels: fine-tuning a pretrained encoder, or training one
from scratch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple, Self

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.datamodule import SSLDataModule
from ..data.peek import BATCH, embed, evaluating, peek, sample
from ..data.sources import Source, labels_of
from ..distributed import on_first
from ..encoders.base import Encoder
from ..encoders.classifier import Classifier
from ..method import SSLMethod
from ..nn.batch_norm import settling, unsettled
from ..nn.precision import cast, dtype_of
from ..nn.skill import wide
from ..run.pretrained import artifacts_of, load_pretrained
from ..types import Batch, Step, Strength, View, ViewSpec
from .budget import EMBEDDING, affordable
from .features import seconds_of_features
from .frozen import EPSILON, regress_in_time
from .measures import balanced
from .validation import Validation

CLASSIFIER = "classifier.safetensors"
"""The file of a supervised run's classifier."""


class Score(NamedTuple):
    """How well a network classifies: cross-entropy, top-1 accuracy, and balanced accuracy, the mean
    of the classes' own; fractions."""

    loss: float
    top1: float
    balanced: float


class Supervised(SSLMethod):
    """Learns to classify: an encoder and a linear head on its standardised features are trained by
    cross-entropy, and what the run ends with is chosen on a validation part.

    The head starts as the logistic regression on the features of the encoder as it comes, so that
    its first gradients do not distort them (Kumar et al., Fine-Tuning can Distort Pretrained
    Features and Underperform Out-of-Distribution, 2022, arXiv 2202.10054, Section 3: LP-FT).
    Without a datamodule it starts at zero.

    Args:
        encoder: the network to train.
        num_classes: number of classes; None: taken from the data.
        checkpoint: a run folder, a checkpoint or an `encoder.safetensors` with weights for the
            encoder; None: the encoder keeps its weights. On the command line, the encoder is then
            built from the checkpoint's config.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al.
            2015, arXiv 1512.00567, Section 7).
        strength: how strongly the samples are augmented; "none" is the test transform.
        patience: passes over the labels without a higher validation accuracy after which the run
            stops; 0: never. However the run ends, its weights are those of the highest accuracy
            (`Validation`).

    Raises:
        ValueError: an argument is out of range, there are fewer than two classes, or the
            checkpoint's weights do not fit the encoder.
        FileNotFoundError: there is no such checkpoint.
    """

    supervised: ClassVar[bool] = True
    regressed_on: int | None = None
    """The labelled samples that the head's regression has learned from; None: it was not fitted."""
    most_samples: ClassVar[int] = 20_000
    """At most this many labelled samples are embedded for the regression that the head starts
    as."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        num_classes: int | None = None,
        checkpoint: str | None = None,
        label_smoothing: float = 0.0,
        strength: Strength = "weak",
        patience: int = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is out of range; give a share of at least 0, below 1.")
        if patience < 0:
            raise ValueError(f"patience={patience} is negative; give a number of passes over the labels, or 0.")
        self.artifacts = {} if checkpoint is None else artifacts_of(checkpoint)
        if checkpoint is not None:
            load_pretrained(encoder, checkpoint)
        self.label_smoothing, self.patience = label_smoothing, patience
        self.views = ViewSpec(full=1, strength=strength)
        self.standardise = nn.BatchNorm1d(encoder.dim, eps=EPSILON, affine=False)
        self.head: nn.Linear | None = None
        if num_classes is not None:
            self.size_head(num_classes)

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The arguments without `checkpoint`: the weights come from this method's checkpoint."""
        return {**init_args, "checkpoint": None}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.standardise.eval()  # by the statistics of the features that the head has begun with
        return self

    def size_head(self, num_classes: int) -> nn.Linear:
        """Builds the head and returns it. Without `num_classes` it is called once the data is known
        or a checkpoint is loaded."""
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes} is too small; give at least 2.")
        head = self.head = nn.Linear(self.encoder.dim, num_classes)
        self.answers = num_classes
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def setup(self, stage: str) -> None:
        super().setup(stage)
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # on purpose
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SSLDataModule):
            if differs := data.difference(self.artifacts):
                raise MisconfigurationException(differs)
            if self.head is None:
                self.size_head(data.num_classes)
            elif self.head.out_features != data.num_classes:
                raise MisconfigurationException(
                    f"{type(self).__name__} has num_classes={self.head.out_features}, but {type(data).__name__} has"
                    f" {data.num_classes} classes. Leave num_classes out, or choose other data."
                )
        elif self.head is None:
            raise MisconfigurationException(
                f"{type(self).__name__} does not know the number of classes, because plain loaders do not give it;"
                " give num_classes."
            )

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if self.head is None and "head.bias" in state_dict:
            self.size_head(len(state_dict["head.bias"]))
        # Earlier versions' fine-tuning did not standardise.
        state_dict = {f"standardise.{name}": value for name, value in self.standardise.state_dict().items()} | dict(
            state_dict
        )
        return super().load_state_dict(state_dict, *args, **kwargs)

    def configure_callbacks(self) -> list[Callback]:
        return [Validation(self.patience)]

    def logits(self, features: Tensor) -> Tensor:
        """Features [S, dim] -> logits [S, K]; the largest is the predicted class.

        Raises:
            ValueError: the number of classes is not known yet.
        """
        if self.head is None:
            raise ValueError(
                f"{type(self).__name__} does not know the number of classes; give num_classes, or train it first."
            )
        logits: Tensor = self.head(self.standardise(features))
        return logits

    def as_classifier(self, class_names: Sequence[str] | None = None) -> Classifier:
        """The encoder and the head, of the same weights, as one encoder of the logits.

        Args:
            class_names: of the classes; None: their numbers.

        Raises:
            ValueError: the number of classes is not known yet.
        """
        if self.head is None:
            raise ValueError(f"{type(self).__name__} has no head yet: it was not trained.")
        known = self.head.out_features
        names = [str(name) for name in class_names or ()] + [str(each) for each in range(len(class_names or ()), known)]
        classifier = Classifier(self.encoder, names, eps=self.standardise.eps)
        classifier.standardise, classifier.head = self.standardise, self.head
        return classifier.eval()

    def classify(self, view: View) -> Tensor:
        """View of S samples -> logits [S, K]."""
        return self.logits(self(view))

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        logits, label = wide(self.classify(view)), batch["label"]
        loss = F.cross_entropy(logits, label, label_smoothing=self.label_smoothing)
        return {"loss": loss, "logs": {"top1": (logits.detach().argmax(dim=1) == label).float().mean()}}

    @torch.no_grad()
    def settle(self, data: SSLDataModule, source: Source, context: Any = None) -> None:
        """Gives a new encoder's BatchNorms running statistics of some samples: else, in eval mode,
        its features would have another scale than in training. Every process must call it.

        Args:
            data, source, context: as in `begin`.
        """
        if norms := unsettled(self.encoder):
            with evaluating(self), settling(norms), context() if context is not None else nullcontext():
                for part in data.parts(source, sample(len(source), BATCH), BATCH):
                    self(cast(peek(data, source, part, self.device)["views"][0], self.encoder))

    @torch.no_grad()
    def begin(self, data: SSLDataModule, source: Source, context: Any = None, seconds: float = math.inf) -> None:
        """Sets the head to the logistic regression on the features of labelled samples. Every
        process must call it.

        Args:
            data: the datamodule whose test transform is used.
            source: the samples.
            context: a context manager for the forward pass, such as the precision plugin's.
            seconds: that it may take; where all samples would take longer, it learns from fewer,
                and says so.
        """
        ends, index = time.monotonic() + seconds, sample(len(source), self.most_samples)
        if seconds < math.inf:
            cost = seconds_of_features(self, data, source, index, self.trainer)
            index = sample(len(source), affordable(len(index), 0, cost, EMBEDDING * seconds)[0])
        x, labels = embed(self, data, source, index, self.device, context).cpu(), labels_of(source)[index]
        head = self.head if self.head is not None else self.size_head(data.num_classes)
        fit, count = on_first(lambda: regress_in_time(x, labels, head.out_features, ends))
        self.regressed_on = count
        if count < min(len(source), self.most_samples):
            rank_zero_warn(
                f"{type(self).__name__} begins with a regression on {count:,} of {len(source):,} labelled samples: all"
                " would take too much of the run's time. Give it more."
            )
        variance = fit.deviation.square() - EPSILON
        for tensor, value in (
            (self.standardise.running_mean, fit.mean),
            (self.standardise.running_var, variance),
            (head.weight, fit.weight),
            (head.bias, fit.bias),
        ):
            assert tensor is not None
            tensor.copy_(value)

    @torch.no_grad()
    def predicted(self, features: Tensor) -> Tensor:
        """Logits [S, K] of features [S, dim], in eval mode, float32."""
        with evaluating(self):
            return self.logits(features.to(self.device, dtype_of(self.encoder))).float()

    def score(self, features: Tensor, labels: Tensor) -> Score:
        """Cross-entropy and accuracy on features [S, dim] with labels [S], in eval mode."""
        logits, labels = self.predicted(features).cpu(), labels.cpu()
        right = logits.argmax(dim=1) == labels
        return Score(float(F.cross_entropy(logits, labels)), float(right.float().mean()), balanced(right, labels))

    def judge(self, data: SSLDataModule, source: Source, context: Any = None) -> Score:
        """Cross-entropy and accuracy on labelled samples under the test transform.

        Args:
            data: the datamodule whose test transform is used.
            source: the samples.
            context: a context manager for the forward pass, such as the precision plugin's.
        """
        return self.score(embed(self, data, source, device=self.device, context=context), labels_of(source))
