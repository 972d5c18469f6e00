"""A paper's optimizer settings as data, from which optimizers and schedules of torch are built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..plugins.arguments import require
from ..plugins.messages import did_you_mean
from .lars import LARS

OptimizerName = Literal["adamw", "sgd", "lars"]
Schedule = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True)
class OptimizerSpec:
    """A paper's optimizer settings.

    Args:
        name: "adamw" (arXiv 1711.05101), "sgd" with momentum, or "lars" (arXiv 1708.03888), which
            adapts only parameters with weight decay.
        lr: learning rate at a batch of `reference_batch`.
        weight_decay: of weights; biases, norms and parameters that a module exempts have none, see
            `parameter_groups`.
        betas: AdamW's decay rates.
        momentum: of SGD and LARS.
        trust_coefficient: LARS's eta.
        reference_batch: the learning rate grows in proportion to batch / this (Goyal et al. 2017,
            arXiv 1706.02677); None: `lr` holds at any batch size.
        schedule: after the warm-up, "cosine" (arXiv 1608.03983) and "linear" (arXiv 1810.04805,
            Appendix A.2) fall to zero, "constant" stays.
        warmup_epochs: length of the linear warm-up, in epochs.
        recipe_epochs: length of the shortest run that the warm-up is meant for, in epochs; a
            shorter one warms up for the same part of its length. None: ten times the warm-up.
        layer_decay: factor on the learning rate from a layer to the one below it (Clark et al.
            2020, arXiv 2003.10555, Section 3.1; BEiT, arXiv 2106.08254), for a module that names
            its layers (`layer_groups`), of which a norm alone is none, as in timm; 1: all learn at
            the same rate.

    Raises:
        ValueError: an unknown name or schedule, or a value out of range.
    """

    name: OptimizerName = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    trust_coefficient: float = 1e-3
    reference_batch: int | None = 256
    schedule: Schedule = "cosine"
    warmup_epochs: float = 10.0
    recipe_epochs: float | None = None
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for field, known in (("name", get_args(OptimizerName)), ("schedule", get_args(Schedule))):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"OptimizerSpec({field}={getattr(self, field)!r}) is unknown; choose from {', '.join(known)}."
                )
        require(self, above=0, trust_coefficient=self.trust_coefficient)
        require(self, at_least=0, lr=self.lr, weight_decay=self.weight_decay, warmup_epochs=self.warmup_epochs)
        require(self, above=0, at_most=1, layer_decay=self.layer_decay)
        require(self, above=0, recipe_epochs=self.recipe_epochs)
        require(self, at_least=1, reference_batch=self.reference_batch)

    def scaled_lr(self, batch_size: int) -> float:
        """The peak learning rate for a batch of `batch_size` samples over all processes."""
        return self.lr if self.reference_batch is None else self.lr * batch_size / self.reference_batch

    def with_fields(self, values: Mapping[str, Any]) -> OptimizerSpec:
        """Copies these settings with fields changed to plain values of a config; lists stand for
        tuples.

        Raises:
            ValueError: there is no such field, or a value is out of range.
        """
        names = [field.name for field in fields(self)]
        for name in values:
            if name not in names:
                raise ValueError(
                    f"OptimizerSpec has no {name!r}.{did_you_mean(name, names)} It has {', '.join(names)}."
                )
        changes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return replace(self, **changes)

    def with_changes(self, **changes: Any) -> OptimizerSpec:
        """Copies these settings with some fields changed; None leaves a field as it is. A warm-up
        that is given takes at most half of the run, whatever the recipe's length was."""
        given = {field: value for field, value in changes.items() if value is not None}
        if given.get("warmup_epochs"):
            given = {"recipe_epochs": 2 * given["warmup_epochs"], **given}
        return replace(self, **given)

    def warmup_steps(self, total_steps: float, steps_an_epoch: float) -> int:
        """Optimizer steps of the warm-up in a run of `total_steps`."""
        if not self.warmup_epochs:
            return 0
        part = self.warmup_epochs / (self.recipe_epochs or 10 * self.warmup_epochs)
        return int(min(self.warmup_epochs * steps_an_epoch, total_steps * part))

    def build(
        self, module: nn.Module, batch_size: int, total_steps: float, steps_an_epoch: float
    ) -> tuple[Optimizer, LambdaLR]:
        """Builds the optimizer of the module's trainable parameters, and its schedule, to be
        advanced after each optimizer step.

        Args:
            module: holds the parameters to train.
            batch_size: samples in one optimizer step over all processes.
            total_steps: optimizer steps of the whole training; as in `factor`.
            steps_an_epoch: optimizer steps of one epoch.
        """
        optimizer = self._optimizer(module, self.scaled_lr(batch_size))
        return optimizer, LambdaLR(optimizer, self.factor(total_steps, steps_an_epoch))

    def factor(self, total_steps: float, steps_an_epoch: float) -> partial[float]:
        """The factor on the learning rate by step, counted from 0.

        Args:
            total_steps: optimizer steps of the whole training; infinite: not known yet, and the
                rate stays after the warm-up.
            steps_an_epoch: optimizer steps of one epoch.
        """
        warmup_steps = self.warmup_steps(total_steps, steps_an_epoch)
        if self.schedule == "linear":
            return partial(warmup_linear, warmup_steps=warmup_steps, total_steps=total_steps)
        final = 0.0 if self.schedule == "cosine" else 1.0
        return partial(warmup_cosine, warmup_steps=warmup_steps, total_steps=total_steps, final=final)

    def _optimizer(self, module: nn.Module, lr: float) -> Optimizer:
        layers = module.layer_groups() if self.layer_decay < 1 else []  # type: ignore[operator]  # what an encoder has, and a method that tunes one
        rates: dict[Tensor, tuple[int, float]] = {}
        below = 1
        for number, layer in enumerate(reversed(layers), 1):
            rates.update(dict.fromkeys(layer, (number, lr * self.layer_decay**below)))
            below += any(parameter.ndim > 1 for parameter in layer)  # a norm belongs to the layer below it
        if self.name == "lars":
            groups = parameter_groups(module, self.weight_decay, rates, adapt=False)
            return LARS(groups, lr, momentum=self.momentum, trust_coefficient=self.trust_coefficient)
        groups = parameter_groups(module, self.weight_decay, rates)
        optimizer: AdamW | SGD
        if self.name == "adamw":
            optimizer = AdamW(groups, lr=lr, betas=self.betas, fused=True)
        else:
            optimizer = SGD(groups, lr=lr, momentum=self.momentum, fused=True)
            # The fused one fails where some weights have a buffer and others had no gradient yet.
            # Buffers that start at zero change nothing.
            for weight in (weight for group in groups for weight in group["params"]):
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        # Lightning refuses to clip gradients for an optimizer that says it unscales them itself,
        # even where nothing scales.
        optimizer._step_supports_amp_scaling = False
        return optimizer


def warmup_cosine(step: int, warmup_steps: int, total_steps: float, final: float = 0.0) -> float:
    """Factor on the learning rate of optimizer step `step`, counted from 0.

    It rises linearly to 1 at step `warmup_steps`, from 1 / (warmup_steps + 1) so that no step is
    lost, then falls along half a cosine to `final` at `total_steps` and stays there (Loshchilov &
    Hutter 2017, arXiv 1608.03983, Equation 5).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def warmup_linear(step: int, warmup_steps: int, total_steps: float) -> float:
    """`warmup_cosine` with a line down to zero in place of the cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return max(0.0, 1 - (step - warmup_steps) / max(1, total_steps - warmup_steps))


def parameter_groups(
    module: nn.Module, weight_decay: float, rates: Mapping[Tensor, tuple[int, float]] | None = None, **without: Any
) -> list[dict[str, Any]]:
    """Groups the trainable parameters, with weight decay and without, one pair of groups for each
    layer; each parameter is in one group.

    Biases and norms (one dimension or none) are without, and the parameters that a submodule lists
    in `no_weight_decay`, names relative to it, as a method (timm's way) or as an attribute.

    Args:
        module: holds the parameters to train.
        weight_decay: of the groups that decay.
        rates: layer, counted from 1 down from the output, and learning rate of parameters that do
            not learn at the optimizer's.
        without: further settings of the groups that do not decay.

    Returns:
        The groups at the optimizer's rate first, the others from the output to the input.
    """
    exempt = {id(parameter) for child in module.modules() for parameter in _listed(child)}
    members: dict[tuple[int, bool, float | None], list[Tensor]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            layer, rate = (rates or {}).get(parameter, (0, None))  # None stands for the optimizer's
            decays = parameter.ndim > 1 and id(parameter) not in exempt
            members.setdefault((layer, not decays, rate), []).append(parameter)
    groups = []
    for (_, exempted, rate), parameters in sorted(members.items(), key=lambda item: item[0][:2]):
        group: dict[str, Any] = {"params": parameters}
        group |= {"weight_decay": 0.0, **without} if exempted else {"weight_decay": weight_decay}
        groups.append(group if rate is None else {**group, "lr": rate})
    return groups


def _listed(module: nn.Module) -> Iterable[Tensor]:
    """The parameters in `module.no_weight_decay`; timm also lists names that a variant lacks."""
    listed = getattr(module, "no_weight_decay", ())
    names = set(listed() if callable(listed) else listed)
    if not names:
        return []
    return [parameter for name, parameter in module.named_parameters(remove_duplicate=False) if name in names]
