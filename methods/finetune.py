"""Fine-tuning."""

from __future__ import annotations

from typing import Any, ClassVar

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.evaluation.supervised import Supervised
from ssl_lightning.optim.recipes import OptimizerSpec


class Finetune(Supervised):
    """Fine-tuning: all of a pretrained encoder is trained on labels, its lower layers more slowly.

    The recipe of Bao, Dong, Piao and Wei, BEiT: BERT Pre-Training of Image Transformers (2021),
    arXiv 2106.08254, as in He et al., Masked Autoencoders Are Scalable Vision Learners (2021),
    arXiv 2111.06377, Table 9, without mixup and its like, from the head of LP-FT (arXiv 2202.10054)
    and at a lower rate, which that head allows.

    Args:
        encoder: a pretrained encoder, or, to learn from scratch, a new one.
        layer_decay: factor on the learning rate from a layer to the one below it (0.75 in both
            papers); 1: none, for an encoder that has not been pretrained.
    """

    optimizer_specs: ClassVar = {
        # MAE, Table 9, apart from the rate: a tenth of it, since the head has been fitted, and the
        # same at any size of the batch, which few labels make small.
        "adamw": OptimizerSpec("adamw", lr=1e-4, weight_decay=0.05, reference_batch=None, warmup_epochs=5),
        "sgd": OptimizerSpec("sgd", lr=0.05, weight_decay=1e-4, warmup_epochs=5),
    }

    def __init__(self, encoder: Encoder, *, layer_decay: float = 0.75, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.optimizer_spec = self.optimizer_spec.with_changes(layer_decay=layer_decay)
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.requires_grad_(True)  # a teacher's, or one that was probed
        self.train()  # loaded encoders are in eval mode
