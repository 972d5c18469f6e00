"""A new run starts from weights that something has learned: another run, or published ones."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.datamodule import SSLDataModule
from ..encoders.as_tokens import as_token_encoder
from ..encoders.base import Encoder, TokenEncoder
from ..encoders.kinds import EXAMPLES, KINDS, needed_encoder
from ..encoders.published import is_published
from ..optim.configure import steps_an_epoch
from ..plugins.archive import read
from ..plugins.arguments import require
from .checkpoints.checkpoint import find_newest
from .pretrained import artifacts_of, load, load_encoder
from .reading import data_class_of
from .standing import Standing
from .training import Training

OPTION = "--from"
"""The short name of `--start.weights`."""


class Origin(NamedTuple):
    """The weights that a run starts from.

    Args:
        encoder: in eval mode.
        method: whose encoder it is, with heads, teacher and queue; None: the encoder alone is
            known.
        artifacts: the text files that the encoder needs, by name.
    """

    encoder: Encoder
    method: Training | None
    artifacts: dict[str, str]


def origin_of(path: str, method: type | None = None, trust: Iterable[str] = ()) -> Origin:
    """Reads the weights that a run is to start from.

    Args:
        path: a run folder, a checkpoint, an encoder's file, or published weights by name.
        method: the class of the method that starts, which may need an encoder with tokens.
        trust: further packages that a config inside may name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or its encoder is of another kind than the method needs.
    """
    kind = KINDS[needed_encoder(method)] if method is not None else Encoder
    learned = None if checkpoint_of(path) is None else load(path, trust)
    encoder = load_encoder(path, trust) if learned is None else learned.backbone
    artifacts = {} if is_published(path) else artifacts_of(path)
    try:
        encoder = as_token_encoder(encoder) if kind is TokenEncoder else encoder
    except ValueError as error:
        raise ValueError(f"{OPTION} {path}: {error}") from error
    if not isinstance(encoder, kind):
        raise ValueError(
            f"{OPTION} {path}: {method.__name__ if method else 'the method'} needs a {kind.__name__}, such as"
            f" {EXAMPLES[kind.__name__]}; the encoder there is a {type(encoder).__name__}."
        )
    return Origin(encoder, learned, artifacts)


def checkpoint_of(path: str) -> Path | None:
    """The checkpoint that `path` is, or the newest whole one of a run folder; None: there is none,
    and the encoder's file or a name of published weights is all."""
    given = Path(path)
    if is_published(path) or given.suffix == ".safetensors":
        return None
    return find_newest(given / "checkpoints") if given.is_dir() else given


class Start(Standing):
    """Starts a run from weights that something has learned. It is a new run, with its own data,
    settings and schedule; `--resume` goes on with the same one.

    Args:
        weights: a run folder, whose newest checkpoint is read, a checkpoint, an
            `encoder.safetensors`, or published weights: `timm:NAME`, `timm:FOLDER`, `hf:NAME`,
            `hf:FOLDER`. None: the first weights of the encoder.
        heads: whether heads, teacher and queue are taken over too, from a run of the same method.
        optimizer: whether the moments of its optimizer are taken over too.
        frozen_epochs: epochs at the beginning in which the encoder's weights stay as they are, and
            what is on top of it learns (Kumar et al. 2022, arXiv 2202.10054). Its BatchNorms keep
            following the data.
        enabled: false: the run starts from the first weights.

    Raises:
        ValueError: frozen_epochs is negative, or an option asks for what no weights come with.
    """

    key = "start"
    resumes = False
    """Whether the run goes on from a checkpoint of its own, which then holds the weights."""

    def __init__(
        self,
        weights: str | None = None,
        heads: bool = True,
        optimizer: bool = False,
        frozen_epochs: float = 0.0,
        enabled: bool = True,
    ) -> None:
        require(self, at_least=0, frozen_epochs=frozen_epochs)
        if weights is None and (optimizer or frozen_epochs):
            raise ValueError(
                f"Start(optimizer={optimizer}, frozen_epochs={frozen_epochs}) has no weights to start from; give"
                f" {OPTION} a run, a file, or the name of published weights."
            )
        self.weights = weights if enabled else None
        self.heads, self.optimizer, self.frozen_epochs = heads, optimizer, frozen_epochs
        self.reset()

    def reset(self) -> None:
        self.frozen_steps = 0

    @property
    def recorded_args(self) -> dict[str, Any]:
        """The arguments, for the config of a run that starts from weights."""
        if self.weights is None:
            return {}
        return {name: getattr(self, name) for name in ("weights", "heads", "optimizer", "frozen_epochs")}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit" or self.weights is None:
            return
        if self.frozen_epochs and not heads_of(pl_module):
            raise MisconfigurationException(
                f"Start(frozen_epochs={self.frozen_epochs}): {type(pl_module).__name__} has no weights on top of its"
                " encoder, so that nothing would learn in these epochs; leave it out."
            )
        if self.resumes:
            return
        origin = origin_of(self.weights, type(pl_module), [type(pl_module).__module__.partition(".")[0]])
        data = trainer.datamodule
        if isinstance(data, SSLDataModule):
            if differs := data.difference(origin.artifacts):
                raise MisconfigurationException(differs)
            _warn_of_other_data(self.weights, data)
        load_weights(pl_module, origin, self.weights, self.heads)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.frozen_steps = round(self.frozen_epochs * steps_an_epoch(trainer))
        if self.optimizer and self.weights is not None and not self.resumes:
            checkpoint = checkpoint_of(self.weights)
            states = read(checkpoint).get("optimizer_states") if checkpoint is not None else None
            if not states:
                raise MisconfigurationException(
                    f"Start(optimizer=True): {self.weights!r} holds no optimizer; give a run folder or a checkpoint."
                )
            for optimizer, state in zip(trainer.optimizers, states, strict=True):
                take_moments(optimizer, state, self.weights)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        # A weight without a gradient has no step: no weight decay, and no moments.
        if trainer.global_step < self.frozen_steps:
            for weight in pl_module.backbone.parameters():
                weight.grad = None


def _warn_of_other_data(path: str, data: SSLDataModule) -> None:
    """Says where the weights come from data of another kind, which may be on purpose."""
    with suppress(OSError, ValueError):
        before, now = data_class_of(path).reads_items(), data.reads_items()
        if before is not None and now is not None and not (issubclass(now, before) or issubclass(before, now)):
            rank_zero_warn(
                f"{OPTION} {path}: the weights were trained on data of {before.__name__}, and {type(data).__name__} is"
                f" read as {now.__name__}."
            )


def heads_of(method: Training) -> list[nn.Parameter]:
    """The weights of a method that learn, besides those of its encoder."""
    encoder = {id(weight) for weight in method.backbone.parameters()}
    return [weight for weight in method.parameters() if weight.requires_grad and id(weight) not in encoder]


def load_weights(method: Training, origin: Origin, name: str, heads: bool = True) -> None:
    """Loads weights into a method that begins.

    Args:
        method: that starts.
        origin: the weights.
        name: of them, for messages.
        heads: whether all is taken over where they are of the same method; else the encoder alone,
            and teachers begin as its copies.

    Raises:
        ValueError: they do not fit.
    """
    whole = heads and origin.method is not None and type(origin.method) is type(method)
    network: nn.Module = method if whole else method.backbone
    learned: nn.Module = origin.method if whole and origin.method is not None else origin.encoder
    try:
        network.load_state_dict(adapted(network, learned))
    except RuntimeError as error:
        reason = " ".join(str(error).partition(":")[2].split())
        reason = reason if len(reason) < 300 else f"{reason[:300]} ..."
        remedy = "Give the run's own settings" + (", or --start.heads false for its encoder alone." if whole else ".")
        raise ValueError(
            f"{OPTION} {name}: the weights do not fit the {type(network).__name__} of this run: {reason} {remedy}"
        ) from error
    if not whole:
        for teacher in method.teachers:
            teacher.restart()


def adapted(network: nn.Module, learned: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, of which those of encoders are adapted to views of another size
    (`Encoder.adapt`)."""
    weights: dict[str, Tensor] = dict(learned.state_dict())
    others = dict(learned.named_modules())
    for name, encoder in network.named_modules():
        other = others.get(name)
        if isinstance(encoder, Encoder) and isinstance(other, Encoder):
            prefix = f"{name}." if name else ""
            mine = {key.removeprefix(prefix): each for key, each in weights.items() if key.startswith(prefix)}
            weights |= {prefix + key: each for key, each in encoder.adapt(mine, other).items()}
    return weights


def take_moments(optimizer: Optimizer, saved: dict[str, Any], name: str) -> None:
    """Gives an optimizer the moments of another one; rates and decay stay its own.

    Args:
        optimizer: that begins.
        saved: the state of the other one.
        name: where that comes from, for messages.

    Raises:
        ValueError: it is of another kind, or of other weights.
    """
    groups = optimizer.state_dict()["param_groups"]
    sizes = [len(group["params"]) for group in groups]
    before = [len(group["params"]) for group in saved.get("param_groups", [])]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    states = saved.get("state", {})
    fits = sizes == before and all(
        not isinstance(value, Tensor) or value.ndim == 0 or value.shape == weights[number].shape
        for number, state in states.items()
        for value in state.values()
    )
    known = {key for group in groups for key in group}
    if not fits or not known <= {key for group in saved["param_groups"] for key in group}:
        raise ValueError(
            f"Start(optimizer=True): the optimizer of {name!r} is of another kind, or of other weights, than this"
            " run's; leave it out."
        )
    optimizer.load_state_dict({"state": states, "param_groups": groups})
