"""What the proofs of several methods share: exact steps, their gradients, and short runs that are
remembered step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning.method import SSLMethod
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.testing import MethodKit, TinyEncoder, TinyImages
from ssl_lightning.types import Batch


def exact(cls: type[SSLMethod], samples: int = 7, **init_args: Any) -> tuple[Any, Batch]:
    """A method and a batch in float64; its teacher is no longer equal to what it follows."""
    kit = MethodKit(cls, **init_args)
    method, batch = kit.method().double(), kit.batch(samples)
    batch["views"] = [view.each(Tensor.double) for view in batch["views"]]
    generator = torch.Generator().manual_seed(1)
    for parameter in method.teacher.parameters():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return method, batch


def gradients(loss: Tensor, method: SSLMethod) -> dict[str, Tensor]:
    """Of every trainable parameter, by its name."""
    trained = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values()), retain_graph=True), strict=True))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of two vectors."""
    return (a @ b) / (a.norm() * b.norm())


class DoubleImages(TinyImages):
    """TinyImages in float64."""

    def make_batch(self, batch: Any) -> Batch:
        made = super().make_batch(batch)
        return {**made, "views": [view.each(Tensor.double) for view in made["views"]]}


class Remember(pl.Callback):
    """What a run does, step by step."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.steps: dict[str, list[Tensor]] = {"gradient": [], "weights": [], "teacher": [], "queue": []}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.steps["gradient"].append(
            torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters() if parameter.requires_grad])
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(outputs["loss"].detach())
        if len(self.steps["gradient"]) > len(self.steps["weights"]):
            flat = {"weights": [parameter for parameter in pl_module.parameters() if parameter.requires_grad]}
            flat["teacher"] = [parameter for teacher in pl_module.teachers for parameter in teacher.parameters()]
            flat["queue"] = (
                [pl_module.queue.features, pl_module.queue.place] if hasattr(pl_module, "queue") else [torch.empty(0)]
            )
            for name, parts in flat.items():
                self.steps[name].append(torch.cat([part.detach().double().flatten() for part in parts]))


def remembered(
    method: SSLMethod, steps: int, batch_size: int = 16, accumulate: int = 1, *callbacks: Any, **settings: Any
) -> dict[str, Any]:
    """Trains for some optimizer steps in float64, by Lightning's bare Trainer.

    Returns:
        The loss, and the gradient, weights, teacher and queue of every optimizer step: [steps,
        ...]; the method's state at the end.
    """
    remember = Remember()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "precision": "64-true", "max_epochs": -1, "max_steps": steps,
            "accumulate_grad_batches": accumulate, **quiet},
        **settings, callbacks=[remember, *callbacks],
    )  # fmt: skip
    trainer.strategy.checkpoint_io = AtomicIO()
    trainer.fit(method, datamodule=DoubleImages(samples=16 * steps, batch_size=batch_size))
    loss = (
        torch.stack(remember.losses).view(steps, -1).sum(dim=1)
    )  # Lightning has divided by the number of accumulated batches
    return {
        "loss": loss,
        **{name: torch.stack(values) for name, values in remember.steps.items()},
        "state": method.state_dict(),
    }


def plain_loop(
    method: Any, loss_of: Callable[[Any, Batch], Tensor], final: float, after: Callable[[], None], steps: int
) -> dict[str, Any]:
    """The same training as `remembered`, written down: optimizer step, slow encoder, and what
    follows.

    Args:
        method: gives its modules, its momentum and its optimizer, and nothing else.
        loss_of: the paper's loss of a batch.
        final: momentum of the slow encoder at the end of a half cosine.
        after: what follows an update.
    """
    data, seen = DoubleImages(samples=16 * steps, batch_size=16), Remember()
    data.serve(method.double().train())
    stream = data.train_dataloader()
    optimizer, schedule = method.optimizer_spec.build(method, 16, steps, steps)
    network, slow, start = nn.Sequential(method.encoder, method.projector), method.teacher.module, method.teacher.decay
    for k in range(steps):
        loss = loss_of(method, data.make_batch(next(stream)))
        optimizer.zero_grad()
        loss.backward()
        seen.on_before_optimizer_step(None, method, optimizer)
        optimizer.step()
        schedule.step()
        tau = final - (final - start) * (math.cos(math.pi * k / steps) + 1) / 2
        with torch.no_grad():
            for old, new in zip(slow.parameters(), network.parameters(), strict=True):
                old.copy_(tau * old + (1 - tau) * new)
            for old, new in zip(slow.buffers(), network.buffers(), strict=True):
                old.copy_(new)
            after()
        seen.on_train_batch_end(None, method, {"loss": loss})
    return {"loss": torch.stack(seen.losses), **{name: torch.stack(values) for name, values in seen.steps.items()}}


def assert_same_run(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Loss, gradient, weights, teacher and queue of every step."""
    for name in ("loss", "gradient", "weights", "teacher", "queue"):
        assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


def tiny(cls: type[SSLMethod], **init_args: Any) -> Any:
    """A method that is equal in every run."""
    torch.manual_seed(0)
    return cls(TinyEncoder(), **init_args)
