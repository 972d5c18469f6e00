"""Every method, with every value of its options: batches that are accumulated, and processes, are
together one large batch, though one has more tokens to predict than the other.

Run as a script this file is one of two processes: `test_options.py FOLDER`.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ssl_lightning.methods.bert import BERT
from torch import Tensor, nn

from ssl_lightning import Batch, Step, View, ViewSpec
from ssl_lightning.distributed import reduce_mean
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.method import SSLMethod
from ssl_lightning.optim.accumulation import WeightedLosses
from ssl_lightning.testing import TinyWaves
from ssl_lightning.testing.methods import MethodKit

SAMPLES = 16
METHODS = {entry.name: entry for entry in entry_points(group="ssl_lightning.methods")}
HEAD: dict[str, list[Any]] = {"hidden_dim": [6], "output_dim": [6], "norm": ["none"]}
SUPERVISED: dict[str, list[Any]] = {
    "label_smoothing": [0.1], "strength": ["strong"], "num_classes": [], "checkpoint": [], "patience": [],
}  # fmt: skip
VALUES: dict[str, dict[str, list[Any]]] = {
    "bert": {"mask_ratio": [0.4], "whole_words": [True], "sentence_order": [True]},
    "byol": {**HEAD, "momentum": [0.5]},
    "denoise": {"noise": [(0.1, 0.3)]},
    "finetune": {**SUPERVISED, "layer_decay": [0.5]},
    "infill": {"span": [0.5], "gaps": [2]},
    "linear_probe": SUPERVISED,
    "mae": {"mask_ratio": [0.5], "decoder_dim": [16], "decoder_depth": [1], "decoder_heads": [2],
            "normalise_target": [False]},
    "moco": {**HEAD, "queue_length": [24], "temperature": [0.5], "momentum": [0.5], "symmetric": [False],
             "batch_norm": ["shuffle", "split"], "parts": [2]},
    "moco_v3": {**HEAD, "projector_layers": [2], "temperature": [0.5], "momentum": [0.5],
                "freeze_patch_embedding": [False]},
    "next_step": {"steps": [1]},
    "simclr": {**HEAD, "temperature": [0.5]},
    "swav": {**HEAD, "local_views": [0], "prototypes": [6], "temperature": [0.5], "epsilon": [0.005],
             "iterations": [1], "freeze_epochs": [0], "queue_length": [24], "queue_epochs": [0.0]},
    "wav2vec2": {"mask_ratio": [0.3], "mask_length": [3], "negatives": [5], "temperature": [0.5], "codebooks": [4],
                 "entries": [6], "target_dim": [8], "gumbel_temperature": [(1.0, 0.5)], "diversity": [0.5],
                 "feature_penalty": [0.0], "stem_gradient": [1.0]},
}  # fmt: skip
"""Other values than the defaults, of every option; none where the loss does not depend on it."""
ALWAYS: dict[str, dict[str, Any]] = {
    name: {"norm": "layer"} for name, values in VALUES.items() if "norm" in values and name != "moco"
}
"""What holds for one sample at a time."""
ALWAYS["swav"] |= {"prototypes": 8}
ALWAYS["wav2vec2"] = {"diversity": 0.0}  # which takes all samples of a batch together
BATCHES: dict[tuple[str, ViewSpec], list[Batch]] = {}
"""A method's batch and its halves, for each kind of views."""
SEQUENCES = ("denoise", "infill", "next_step")
"""Methods that take recordings of different lengths, and images too."""


class Waves(MethodKit):
    """A kit with spectrograms of different lengths."""

    def method(self, dropout: bool = False) -> SSLMethod:
        torch.manual_seed(0)
        causal = bool(self.cls.suited_encoder_args)
        return self.cls(FrameTransformer(mels=16, dim=8, depth=1, heads=2, causal=causal), **self.init_args).train()

    def batch(self, samples: int = SAMPLES, order: Tensor | None = None) -> Batch:
        data = TinyWaves(features="log_mel", mels=16, samples=32, batch_size=samples)
        data.serve(self.method())
        source, index = data.split("train"), torch.arange(samples) if order is None else order
        assert source is not None
        return data.make_batch({"raw": source.fetch(index), "index": index, "pass": torch.zeros_like(index)})


def cases(name: str) -> Iterator[dict[str, Any]]:
    """The method's arguments: the defaults, then one option at a time."""
    yield ALWAYS.get(name, {})
    for option, values in VALUES[name].items():
        for value in values:
            yield {**ALWAYS.get(name, {}), option: value}


def in_double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


class Proof:
    """A method, a batch in float64, and its two halves."""

    def __init__(self, name: str, init_args: dict[str, Any]) -> None:
        kit = (Waves if name in SEQUENCES else MethodKit)(METHODS[name].load(), **init_args)
        self.method = kit.method().double()
        for module in self.method.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()  # of the linear probe: statistics are those of a batch and of a process
        for teacher in self.method.teachers:
            for number, parameter in enumerate(teacher.parameters()):
                parameter += 0.1 * torch.linspace(-1, 1, parameter.numel()).view_as(parameter) / (1 + number)
        if (name, self.method.views) not in BATCHES:
            order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
            parts = (order, *order.split(SAMPLES // 2))
            BATCHES[name, self.method.views] = [self.doubled(kit.batch(len(part), part)) for part in parts]
        self.whole, *self.halves = BATCHES[name, self.method.views]

    @staticmethod
    def doubled(batch: Batch) -> Batch:
        batch["views"] = [View(*map(in_double, view)) for view in batch["views"]]
        return batch

    def gradients(self, batches: list[Batch], accumulated: int = 1) -> Tensor:
        """Of one optimizer step of this process, [P]."""
        self.method.zero_grad()
        losses = WeightedLosses()
        for batch in batches:
            step = self.method.step(batch)
            parts = step.get("losses") or {"loss": (step["loss"], step.get("weight"))}
            loss = losses.weigh(parts.values(), accumulated)
            losses.differentiate(self.method.parameters(), lambda each: each)
            (loss / accumulated).backward()
        for parameter in self.method.parameters():
            if parameter.grad is not None:
                parameter.grad = reduce_mean(parameter.grad)  # as DistributedDataParallel does
        losses.finish(self.method.parameters(), accumulated)
        return torch.cat([
            (torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in self.method.parameters()
        ])  # fmt: skip

    def error(self, gradients: Tensor, whole: Tensor) -> float:
        """Relative to the gradients of the whole batch."""
        return float((gradients - whole).norm() / whole.norm())


def weights(step: Step) -> list[float]:
    return [float(weight) for _, weight in step.get("losses", {}).values()] or [float(step.get("weight", 1.0))]


@pytest.mark.parametrize("name", METHODS)
def test_every_option_has_values_here(name: str) -> None:
    """A new method or option is to be proven too."""
    shared = inspect.signature(SSLMethod).parameters
    options = {
        parameter.name
        for cls in METHODS[name].load().__mro__
        if issubclass(cls, SSLMethod) and "__init__" in cls.__dict__
        for parameter in inspect.signature(cls.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in shared
    }
    assert options == VALUES[name].keys(), f"give other values of {name}'s options in VALUES"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "bert")) for name in METHODS])
def test_accumulated_halves_have_the_gradient_of_the_whole(name: str) -> None:
    if METHODS[name].load().couples_samples:
        return
    for init_args in cases(name):
        proof = Proof(name, init_args)
        if proof.method.couples_samples or init_args.get("batch_norm") == "split":
            continue  # refused, with the reason; or parts of a batch are normalised
        whole = proof.gradients([proof.whole])
        assert proof.error(proof.gradients(proof.halves, accumulated=2), whole) < 1e-5, init_args
        assert proof.error(proof.gradients(proof.halves, accumulated=3), whole) < 1e-5, (init_args, "of an epoch's end")


@pytest.mark.parametrize("name", ["bert", "denoise", "infill", "next_step", "wav2vec2"])
def test_the_halves_differ_in_weight(name: str) -> None:
    """Otherwise the proofs would prove nothing."""
    proof = Proof(name, {})
    first, second = (weights(proof.method.step(half)) for half in proof.halves)
    assert abs(first[0] - second[0]) > 0.05 * first[0], (first, second)


def process(folder: Path) -> None:
    """One of two processes: the errors of its gradients, by method and arguments."""
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    proofs = [(name, init_args, Proof(name, init_args)) for name in METHODS for init_args in cases(name)]
    wholes = [proof.gradients([proof.whole]) for _, _, proof in proofs]
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    errors = [
        (name, str(init_args), proof.error(proof.gradients([proof.halves[rank]]), whole))
        for (name, init_args, proof), whole in zip(proofs, wholes, strict=True)
        if init_args.get("batch_norm") != "split"
    ]
    (folder / f"{rank}.json").write_text(json.dumps(errors))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(run: Any, tmp_path: Path) -> None:
    ended = run(tmp_path, script=[__file__, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    for rank in range(2):
        errors = json.loads((tmp_path / f"{rank}.json").read_text())
        assert {name for name, _, _ in errors} == METHODS.keys()
        assert [each for each in errors if not each[2] < 1e-5] == []


def test_one_weight_for_both_losses_would_be_another_gradient() -> None:
    """The mistake: the loss of order is a mean over samples, and is weighed by tokens."""

    class ByTokens(BERT):
        def step(self, batch: Batch) -> Step:
            step = super().step(batch)
            del step["losses"]
            return step

    proof = Proof("bert", {"sentence_order": True})
    whole = proof.gradients([proof.whole])
    proof.method.__class__ = ByTokens
    assert proof.error(proof.gradients(proof.halves, accumulated=2), whole) > 1e-3


if __name__ == "__main__":
    process(Path(sys.argv[1]))
