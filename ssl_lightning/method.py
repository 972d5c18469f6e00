"""The base of all methods: what an author of one writes. `run/training.py` trains it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from .encoders.base import Encoder
from .encoders.kinds import check_encoder
from .optim.recipes import OptimizerSpec
from .run.pretrained import load
from .run.training import Training
from .types import Alarm, Batch, Need, Step, ViewSpec


class SSLMethod(Training):
    """A self-supervised method defines its input (`views`), what it adds to the encoder
    (`__init__`), and its loss (`step`).

    Optimizer, schedule, EMA updates, seeding, logging and probes are the framework's. Every
    argument after `encoder` is keyword-only and has a default, so that `Method(encoder)` always
    builds.

    Args:
        encoder: the network to pretrain.
        optimizer: a key of the class's `optimizer_specs`; None: the first, the paper's.
        lr: learning rate at the optimizer's reference batch size; None: the paper's.
        weight_decay: of weights, not of biases and norms; None: the paper's.
        warmup_epochs: epochs of linear warm-up, at most half of the run; None: the paper's, in a
            short run in proportion (`OptimizerSpec.recipe_epochs`).
        optimizer_args: changes to the optimizer's other settings, by the names of the fields of
            `OptimizerSpec`, such as `betas`.
        compile: whether the encoder, and a transformer on top of it, train compiled
            (`torch.compile`). The first steps then take minutes, and later ones are not faster on
            a CPU. Weights are equal to their rounding, not bit for bit.
    """

    views: ViewSpec = ViewSpec()
    optimizer_specs: ClassVar[dict[str, OptimizerSpec]] = {"adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-4)}
    """The paper's optimizer settings, as data; the first is the default."""
    answers: int | None = None
    """The number of answers that each prediction chooses from, by cross-entropy; None: none, or it
    depends on the batch (`loss_of_chance`)."""
    couples_samples: str = ""
    """The reason why several small batches do not give the loss of a large one ("its negatives come
    from the same batch"), with which `accumulate_grad_batches` is refused; empty where they do."""

    moves_rows: str = ""
    """The remedy ("Set --model.batch_norm split.") with which a method that moves rows of views
    between processes refuses data whose rows differ in length or hold several samples; empty where
    it moves none."""

    suited_encoder_args: ClassVar[dict[str, Any]] = {}
    """Encoder arguments that the method needs, used as defaults by the command line, where the
    encoder has them: `{"causal": True}`."""

    without_local: ClassVar[dict[str, Any]] = {}
    """Arguments with which a method that takes local views takes none: the command line's defaults
    for data that serves none."""

    alarms: tuple[Alarm, ...] = ()
    """Bounds of the values in `logs` in a healthy run, with the remedies."""
    needs: tuple[Need, ...] = ()
    """Settings that come into play late in a run, or not at all in a short one."""
    collapse_remedy: str | None = None
    """The method's own advice where the embeddings of all samples become alike or say nothing of
    them, worded as the end of a sentence: the collapse monitor's alarms give it after a lower
    learning rate and other views. "": the embeddings may be alike, and there are no such alarms.
    None: none of its own, or, with a single view (which predicts parts of its own input), ""."""
    reads_padding: ClassVar[bool] = True
    """Whether the loss does not depend on padding in views (`View.segment`); otherwise data that
    would pad is refused."""
    incidental = frozenset(("compile",))
    supervised: ClassVar[bool] = False
    """Whether `step` reads the labels; the data then serves labelled samples alone."""
    solved: ClassVar[bool] = False
    """Whether a run is a single step, which solves for all there is to learn: a regression."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        optimizer: str | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        warmup_epochs: float | None = None,
        optimizer_args: dict[str, Any] | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        check_encoder(type(self), encoder)
        self.encoder, self.compiles = encoder, compile
        name = optimizer or next(iter(self.optimizer_specs))
        if name not in self.optimizer_specs:
            raise ValueError(
                f"{type(self).__name__} has no settings for optimizer {name!r}; choose from"
                f" {', '.join(self.optimizer_specs)}."
            )
        self.resolve("optimizer", name)
        self.optimizer_spec = (
            self.optimizer_specs[name]
            .with_changes(lr=lr, weight_decay=weight_decay, warmup_epochs=warmup_epochs)
            .with_fields(optimizer_args or {})  # the last word, also on what a given warm-up implies
        )

    def resolved_args(self) -> dict[str, Any]:
        settings = asdict(self.optimizer_spec)
        shown = {name: settings[name] for name in ("lr", "weight_decay", "warmup_epochs")}
        return super().resolved_args() | shown | {"optimizer_args": settings}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """The same as `ssl_lightning.load`: Lightning's would build what the file names, whatever
        it is.

        Raises:
            TypeError: further arguments are given; a method is rebuilt with its own.
            ValueError: the checkpoint is of another method.
        """
        if args or kwargs:
            raise TypeError(
                "load_from_checkpoint takes the checkpoint alone: a method is rebuilt with its own arguments."
            )
        method = load(checkpoint_path, trust=[cls.__module__.partition(".")[0]])
        if not isinstance(method, cls):
            raise ValueError(f"{str(checkpoint_path)!r} holds a {type(method).__name__}, not a {cls.__name__}.")
        return method

    @property
    def views_a_step(self) -> float:
        """Cost of a training step in full views of a sample, forward and backward; the budget of
        probes is a part of it."""
        return self.views.full + self.views.clean + self.views.local / 4

    def step(self, batch: Batch) -> Step:
        """Computes the loss of a batch; the heart of a method."""
        raise NotImplementedError(f"{type(self).__name__} must define step(batch).")

    def loss_of_chance(self, samples: int) -> float | None:
        """The loss of a network that has learned nothing, for which all answers are equally likely:
        a line in the picture of the loss. By default the logarithm of `answers`. None: it depends
        on the data; a method then logs `skill` against a baseline that needs no learning, whose
        loss is drawn (`nn.skill`).

        Args:
            samples: in a batch, over all processes.
        """
        return None if self.answers is None else math.log(self.answers)

    def after_update(self, states: list[Any]) -> None:
        """Updates queues, prototypes, centres. The framework calls it once after each optimizer
        step, unless float16 gradients overflow and the step is skipped.

        Args:
            states: the `state` that `step` returned (None where it gave none), of each batch since
                the last optimizer step: one, or as many as are accumulated.
        """

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        """What the network is given in place of a view that the method hides parts of, or adds
        noise to: by caption, tensors like a view's `x`, NaN where there is nothing to see. It is
        drawn below the views of a run's first batch, without gradient and in eval mode, by one
        process alone. Most methods change nothing, and have none."""
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the network for a batch, to look at when a run ends: by caption, tensors like
        a view's `x` (MAE's reconstructions). Most methods have none."""
        return {}

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Measures the method at its pretraining task, in scalars by which runs with other settings
        can be compared. It is called in eval mode with the batches of held-out samples, of which
        each process has a share; logged as `held_out/<name>`. Most methods have none."""
        return {}

    def export(self, folder: Path, artifacts: Mapping[str, str]) -> str:
        """Writes the trained method into a folder in a form that another library loads, and gives
        the line that says how (`ssl-lightning export`). Most methods have none.

        Args:
            folder: to write.
            artifacts: of the run, such as the text of its `tokenizer.json`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no other form to be exported to.")

    @property
    def backbone(self) -> Encoder:
        return self.encoder

    @property
    def has_scores(self) -> bool:
        """Whether the method defines `scores`."""
        return type(self).scores is not SSLMethod.scores
