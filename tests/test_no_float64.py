"""Nothing needs float64 where the model is: Apple's GPUs have none.

Everything runs on a pretended accelerator (torch's fake tensors have a device and no values), on
which a tensor of float64 is an offence. What is computed on the CPU, such as constants, may be as
exact as it likes.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_no_sync import integers, like, place, pretend
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_lightning.augment.image import ImagePolicy
from ssl_lightning.augment.log_mel import LogMel
from ssl_lightning.augment.sound import SoundPolicy
from ssl_lightning.augment.window import Waves
from ssl_lightning.data.views import Views
from ssl_lightning.evaluation.probes.linear import Head
from ssl_lightning.evaluation.protocol import knn_predict
from ssl_lightning.nn import precision
from ssl_lightning.nn.spread import effective_rank
from ssl_lightning.optim.recipes import OptimizerSpec
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.training import Training
from ssl_lightning.testing import MethodKit
from ssl_lightning.types import Batch, View

METHODS = Registry("ssl_lightning.methods")
STRENGTHS: Any = ("none", "weak", "strong", "strong_a", "strong_b")
DOUBLE = (torch.float64, torch.complex128)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an accelerator of which torch's fake tensors know no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    monkeypatch.setattr(precision, "WITHOUT_DOUBLE", ("lazy",))
    return "lazy:0"


class NoDouble(TorchDispatchMode):
    """Notes each operation that gives float64 on the pretended accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.offences: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "lazy" and tensor.dtype in DOUBLE:
                self.offences.append(f"{func} at {place()}")
        return out


def test_the_tool_sees_float64_on_the_device_alone(device: str) -> None:
    with FakeTensorMode(), NoDouble() as seen:
        torch.empty(3).double()
        torch.empty(3, device=device).float()
        assert not seen.offences
        torch.empty(3, device=device).double()
        torch.empty(3, device=device).sum(dtype=torch.float64)
    assert len(seen.offences) == 2


@pytest.mark.by_default(1)
@pytest.mark.parametrize("source", [32, 100])
def test_views_of_images(source: int, device: str) -> None:
    policy = ImagePolicy(rotation=10, shear=5, blur_p=0.5, solarize_p=0.2)
    with FakeTensorMode():
        transforms = [policy.build(strength, 32) for strength in STRENGTHS]
        views = Views([*transforms, policy.build("strong", 16, local=True)])
        raw = torch.empty(8, 3, source, source, dtype=torch.uint8, device=device)
        with NoDouble() as seen:
            views.batch({"raw": raw, "index": integers(device), "pass": integers(device)})
    assert not seen.offences, seen.offences


@pytest.mark.parametrize("features", ["waves", "log-mels", "log-mels of varying length"])
def test_views_of_sound(features: str, device: str) -> None:
    mel = None if features == "waves" else LogMel(8000, mels=16)
    varies = features.endswith("length")
    with FakeTensorMode():
        bank = torch.empty(5, 16, 100)
        transforms = [
            SoundPolicy(masks=(1, 1)).build(
                strength, None if varies else 8000, mel, (0.0, 1.0), bank, step=80 if varies else 0, normalise=True
            )
            for strength in (STRENGTHS[:2] if varies else STRENGTHS)
        ]
        for transform in transforms:
            pretend(transform, "cpu")
        raw = Waves(torch.empty(8, 8000, device=device), integers(device))
        with NoDouble() as seen:
            Views(transforms).batch(
                {"cuts": [raw] * len(transforms), "index": integers(device), "pass": integers(device)}
            )
    assert not seen.offences, seen.offences


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.slow
def test_every_method_steps_learns_and_scores(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MethodKit(METHODS[name])
    method, real = kit.method(), kit.batch(8)
    monkeypatch.setattr(Training, "device", torch.device(device))
    with FakeTensorMode():
        pretend(method, device)
        views = [view.each(lambda part: like(part, device)) for view in real["views"]]
        batch: Batch = {"views": views, "index": integers(device), "key": integers(device), "label": integers(device)}
        optimizer, schedule = OptimizerSpec("lars").build(method, 8, 10, 10)  # fused ones are torch's
        with NoDouble() as seen:
            out = method.step(batch)
            out["loss"].backward()
            optimizer.step()
            schedule.step()
            for teacher in method.teachers:
                teacher.update(0.5)
            with torch.no_grad():
                method.after_update([out.get("state")])
                method.eval()(views[0])
                if method.has_scores:
                    method.scores([batch])
    assert not seen.offences, seen.offences


def test_probes(device: str) -> None:
    head = Head(8, 4, 0.01, 1e-3, torch.device("cpu"))
    with FakeTensorMode():
        features, labels = torch.empty(32, 8, device=device), torch.empty(32, dtype=torch.int64, device=device)
        with NoDouble() as seen:
            pretend(head.module, device)
            head.optimizer = torch.optim.AdamW(head.module.parameters(), fused=False)
            head.learn(features, labels)
            head.scores(features)
            knn_predict(features, labels, features, 4)
            with pytest.raises(DataDependentOutputException):  # it looks whether all values are finite
                effective_rank(features)
    assert not seen.offences, seen.offences


def test_sums_and_ranks_are_exact_where_float64_exists() -> None:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert effective_rank(x).dtype == torch.float64
    assert precision.sum_dtype(x.device) == torch.float64 and precision.sum_dtype(torch.device("lazy")) == torch.float32
    assert precision.where_double(x) is x


def test_a_view_of_ids_stays_integers() -> None:
    view = View(torch.ones(2, 3, dtype=torch.int64))
    assert precision.cast(view, torch.nn.Linear(2, 2).bfloat16()).x.dtype == torch.int64
    assert precision.cast(View(torch.ones(2)), torch.nn.Linear(2, 2).bfloat16()).x.dtype == torch.bfloat16
    assert precision.cast(View(torch.ones(2)), torch.nn.Identity()).x.dtype == torch.float32
