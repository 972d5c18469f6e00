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
Schedule = Literal["cosine", "constant"]


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
        schedule: after the warm-up, "cosine" falls to zero (arXiv 1608.03983), "constant" stays.
        warmup_epochs: length of the linear warm-up, in epochs.
        layer_decay: factor on the learning rate from a layer to the one below it (Clark et al.
            2020, arXiv 2003.10555, Section 3.1; BEiT, arXiv 2106.08254), for a module that names
            its layers (`layer_groups`); 1: all learn at the same rate.

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
        """Copies these settings with some fields changed; None leaves a field as it is."""
        return replace(self, **{field: value for field, value in changes.items() if value is not None})

    def build(
        self, module: nn.Module, batch_size: int, total_steps: int, steps_an_epoch: float
    ) -> tuple[Optimizer, LambdaLR]:
        """Builds the optimizer of the module's trainable parameters, and its schedule, to be
        advanced after each optimizer step.

        The warm-up takes at most a tenth of the training, so that a short run also reaches its
        learning rate.

        Args:
            module: holds the parameters to train.
            batch_size: samples in one optimizer step over all processes.
            total_steps: optimizer steps of the whole training.
            steps_an_epoch: optimizer steps of one epoch.
        """
        optimizer = self._optimizer(module, self.scaled_lr(batch_size))
        warmup_steps = int(min(self.warmup_epochs * steps_an_epoch, total_steps / 10))
        final = 0.0 if self.schedule == "cosine" else 1.0
        factor = partial(warmup_cosine, warmup_steps=warmup_steps, total_steps=total_steps, final=final)
        return optimizer, LambdaLR(optimizer, factor)

    def _optimizer(self, module: nn.Module, lr: float) -> Optimizer:
        layers = module.layer_groups() if self.layer_decay < 1 else []  # type: ignore[operator]  # what an encoder has, and a method that tunes one
        rates = {
            parameter: lr * self.layer_decay**depth
            for depth, layer in enumerate(reversed(layers), 1)
            for parameter in layer
        }
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


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, final: float = 0.0) -> float:
    """Factor on the learning rate of optimizer step `step`, counted from 0.

    It rises linearly to 1 at step `warmup_steps`, from 1 / (warmup_steps + 1) so that no step is
    lost, then falls along half a cosine to `final` at `total_steps` and stays there (Loshchilov &
    Hutter 2017, arXiv 1608.03983, Equation 5).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(
    module: nn.Module, weight_decay: float, rates: Mapping[Tensor, float] | None = None, **without: Any
) -> list[dict[str, Any]]:
    """Groups the trainable parameters, with weight decay and without, one pair of groups for each
    learning rate; each parameter is in one group.

    Biases and norms (one dimension or none) are without, and the parameters that a submodule lists
    in `no_weight_decay`, names relative to it, as a method (timm's way) or as an attribute.

    Args:
        module: holds the parameters to train.
        weight_decay: of the groups that decay.
        rates: learning rates of parameters that do not learn at the optimizer's.
        without: further settings of the groups that do not decay.

    Returns:
        The groups at the optimizer's rate first, the others from the highest rate to the lowest.
    """
    exempt = {id(parameter) for child in module.modules() for parameter in _listed(child)}
    members: dict[tuple[float, bool], list[Tensor]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            rate = (rates or {}).get(parameter, math.inf)  # infinite stands for the optimizer's
            members.setdefault((rate, parameter.ndim > 1 and id(parameter) not in exempt), []).append(parameter)
    groups = []
    for rate, decays in sorted(members, reverse=True):
        group: dict[str, Any] = {"params": members[rate, decays]}
        group |= {"weight_decay": weight_decay} if decays else {"weight_decay": 0.0, **without}
        groups.append(group if math.isinf(rate) else {**group, "lr": rate})
    return groups


def _listed(module: nn.Module) -> Iterable[Tensor]:
    """The parameters in `module.no_weight_decay`; timm also lists names that a variant lacks."""
    listed = getattr(module, "no_weight_decay", ())
    names = set(listed() if callable(listed) else listed)
    if not names:
        return []
    return [parameter for name, parameter in module.named_parameters(remove_duplicate=False) if name in names]
