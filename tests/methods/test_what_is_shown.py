"""Every method says what the pictures of a run need to know of it: the loss of a network that has
learned nothing, and what is hidden from the network."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_lightning.method import SSLMethod
from ssl_lightning.testing import MethodKit

SAMPLES = 16
METHODS = {entry.name: entry for entry in entry_points(group="ssl_lightning.methods")}
ALIKE: dict[str, dict[str, Any]] = {
    "bert": {},
    "bert, order": {"sentence_order": True},
    "finetune": {},
    "linear_probe": {},
    "moco": {"temperature": 1e5, "queue_length": 24},
    "moco_v3": {"temperature": 1e5},
    "simclr": {"temperature": 1e5},
    "swav": {"temperature": 1e5, "prototypes": 24},
    "wav2vec2": {"temperature": 1e5, "negatives": 7, "diversity": 0.0, "feature_penalty": 0.0},
}
"""Arguments with which all answers are nearly equally likely."""
HIDING = {"bert", "denoise", "infill", "mae", "wav2vec2"}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_nothing_learned_is_known_or_follows_from_a_skill(name: str) -> None:
    kit = MethodKit(METHODS[name].load())
    method = kit.method()
    step, known = method.step(kit.batch(SAMPLES)), method.loss_of_chance(SAMPLES)
    assert (known is None) == ("skill" in step.get("logs", {}))


@pytest.mark.parametrize("name", ALIKE)
def test_where_all_answers_are_equally_likely_the_loss_is_that_of_nothing_learned(name: str) -> None:
    kit = MethodKit(METHODS[name.split(",")[0]].load(), **ALIKE[name])
    method = kit.method()
    with torch.no_grad():
        for head in (getattr(method, "head", None), getattr(method, "order", None)):
            for parameter in () if head is None else head.parameters():
                parameter.zero_()
        if "bert" in name:
            method.bias.zero_()  # type: ignore[operator]
    loss, known = method.step(kit.batch(SAMPLES))["loss"], method.loss_of_chance(SAMPLES)
    assert known is not None and float(loss.detach()) == pytest.approx(known, rel=0.02 if name == "wav2vec2" else 1e-3)


@pytest.mark.parametrize("name", sorted({name for name in METHODS} - {each.split(",")[0] for each in ALIKE} - {"byol"}))
def test_the_loss_that_a_skill_is_measured_by_does_not_depend_on_the_network(name: str) -> None:
    kit = MethodKit(METHODS[name].load())
    batch = kit.batch(SAMPLES)

    def baseline(method: SSLMethod) -> Tensor:
        step = method.step(batch)
        return step["loss"].detach() / (1 - step["logs"]["skill"])

    other = kit.method()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    torch.testing.assert_close(baseline(other), baseline(kit.method()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_what_hides_parts_of_a_view_shows_what_is_left(name: str) -> None:
    hides = METHODS[name].load().corrupted is not SSLMethod.corrupted
    assert hides == (name in HIDING)


class Constant(nn.Module):
    """Says the same of every sample, in one direction."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return torch.eye(4)[[self.axis] * SAMPLES]


def test_without_negatives_nothing_learned_is_at_right_angles_to_what_is_predicted() -> None:
    kit = MethodKit(METHODS["byol"].load())
    method: Any = kit.method()
    method.predictor, method.teacher = Constant(0), Constant(1)
    assert method.step(kit.batch(SAMPLES))["loss"] == method.loss_of_chance(SAMPLES) == 4.0
