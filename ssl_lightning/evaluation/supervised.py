"""The base of methods that learn from labels: the second step, on top of a pretrained encoder or of
none."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.datamodule import SSLDataModule
from ..data.peek import embed, evaluating
from ..data.sources import Source, labels_of
from ..encoders.base import Encoder
from ..method import SSLMethod
from ..run.pretrained import artifacts_of, load_pretrained
from ..types import Batch, Step, Strength, View, ViewSpec
from .validation import Validation


class Supervised(SSLMethod):
    """Learns classes: an encoder, a linear head on its features, cross-entropy, and weights chosen
    on a validation part.

    The head starts at zero, so that its first gradients do not disturb the encoder (MAE's code
    starts it at 2e-5).

    Args:
        encoder: the network to learn with.
        num_classes: None takes the data's.
        checkpoint: a run folder, a checkpoint or an `encoder.safetensors` with weights for the
            encoder; None leaves them as they are. On the command line the encoder is then built as
            the checkpoint says.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al.
            2015, arXiv 1512.00567, Section 7).
        strength: how hard the images are augmented; "none" is the test transform.
        patience: passes over the labels without a lower validation loss after which the run stops;
            0 for never. Whenever it ends, it ends with the weights of the lowest one.

    Raises:
        ValueError: an argument is out of range, there are fewer than two classes, or the
            checkpoint's weights are another encoder's.
        FileNotFoundError: there is no such checkpoint.
    """

    supervised: ClassVar[bool] = True

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
            raise ValueError(f"label_smoothing={label_smoothing} is a share; give a number from 0 to below 1.")
        if patience < 0:
            raise ValueError(f"patience={patience} counts passes over the labels; give 0 or more.")
        self.artifacts = {} if checkpoint is None else artifacts_of(checkpoint)
        if checkpoint is not None:
            load_pretrained(encoder, checkpoint)
        self.label_smoothing, self.patience = label_smoothing, patience
        self.views = ViewSpec(full=1, strength=strength)
        self.head: nn.Linear | None = None
        if num_classes is not None:
            self.size_head(num_classes)

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """The weights come from this method's own checkpoint."""
        return {**init_args, "checkpoint": None}

    def size_head(self, num_classes: int) -> nn.Linear:
        """Makes the head, and returns it: called where nobody gave `num_classes`, once the data is
        known or a checkpoint is loaded."""
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: at least 2 are needed.")
        head = self.head = nn.Linear(self.encoder.dim, num_classes)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SSLDataModule):
            if differs := data.difference(self.artifacts):
                raise MisconfigurationException(differs)
            if self.head is None:
                self.size_head(data.num_classes)
            elif self.head.out_features != data.num_classes:
                raise MisconfigurationException(
                    f"{type(self).__name__} has num_classes={self.head.out_features}, and {type(data).__name__} has"
                    f" {data.num_classes} classes. Leave num_classes out, or choose other data."
                )
        elif self.head is None:
            raise MisconfigurationException(
                f"{type(self).__name__}: plain loaders do not say how many classes there are; give num_classes."
            )

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if self.head is None and "head.bias" in state_dict:
            self.size_head(len(state_dict["head.bias"]))
        return super().load_state_dict(state_dict, *args, **kwargs)

    def configure_callbacks(self) -> list[Callback]:
        return [Validation(self.patience)]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The encoder's, for `layer_decay`; the head learns at the full rate."""
        return self.encoder.layer_groups()

    def logits(self, features: Tensor) -> Tensor:
        """Features [S, dim] -> [S, K], of which the largest is the class.

        Raises:
            ValueError: nobody said how many classes there are.
        """
        if self.head is None:
            raise ValueError(
                f"{type(self).__name__} does not know how many classes there are; give num_classes, or train it."
            )
        logits: Tensor = self.head(features)
        return logits

    def classify(self, view: View) -> Tensor:
        """View of S samples -> logits [S, K]."""
        return self.logits(self(view))

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        logits, label = self.classify(view), batch["label"]
        loss = F.cross_entropy(logits, label, label_smoothing=self.label_smoothing)
        return {"loss": loss, "logs": {"top1": (logits.detach().argmax(dim=1) == label).float().mean()}}

    @torch.no_grad()
    def score(self, features: Tensor, labels: Tensor) -> tuple[float, float]:
        """Cross-entropy and top-1 accuracy of features [S, dim], in eval mode."""
        with evaluating(self):
            logits = self.logits(features.to(self.device)).float()
        labels = labels.to(self.device)
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(dim=1) == labels).float().mean())

    def judge(self, data: SSLDataModule, source: Source, context: Any = None) -> tuple[float, float]:
        """Cross-entropy and top-1 accuracy on labelled samples under the test transform.

        Args:
            data: whose test transform is used.
            source: the samples.
            context: a context manager for the forward pass, such as the precision plugin's.
        """
        return self.score(embed(self, data, source, device=self.device, context=context), labels_of(source))
