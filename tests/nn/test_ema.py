"""The teacher is a slow float32 copy that nothing trains."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning import Encoder
from ssl_lightning.nn.ema import EMA
from ssl_lightning.types import View


class Small(Encoder):
    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(3, dim), nn.BatchNorm1d(dim))

    def forward(self, view: View) -> Tensor:
        return self.layers(view.x)


def train_a_little(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
    dtype = next(module.parameters()).dtype
    module(View(torch.randn(5, 3, dtype=dtype)))  # moves the running means


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_update_equals_a_loop_over_the_parameters(dtype: torch.dtype) -> None:
    student = Small().to(dtype)
    teacher = EMA(student, decay=0.9, final=1.0)
    expected = [parameter.detach().double() for parameter in student.parameters()]
    for k in range(5):
        train_a_little(student)
        tau = 1 - (1 - 0.9) * (math.cos(math.pi * k / 5) + 1) / 2  # arXiv 2006.07733, Section 3.1
        expected = [
            tau * old + (1 - tau) * new.detach().double()
            for old, new in zip(expected, student.parameters(), strict=True)
        ]
        teacher.update(k / 5)
    for parameter, value in zip(teacher.parameters(), expected, strict=True):
        assert parameter.dtype == torch.float32
        assert_close(parameter.double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_all_tensors_at_once_are_bit_for_bit_one_by_one(dtype: torch.dtype) -> None:
    """Weights of every size and layout in memory, and buffers of several dtypes."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Conv2d(7, 33, 1), nn.Linear(100, 301)).to(dtype)
    student.to(memory_format=torch.channels_last)
    teacher = EMA(student, decay=0.9, final=0.9)
    expected = copy.deepcopy(teacher.module)
    for _ in range(5):
        with torch.no_grad():
            for weight in (*student.parameters(), student[1].running_mean, student[1].running_var):
                weight += torch.randn_like(weight)
            student[1].num_batches_tracked += 1
            for weight, new in zip(expected.parameters(), student.parameters(), strict=True):
                weight.lerp_(new.to(weight.dtype), 1 - teacher.decay_at(0.0))
            for old, buffer in zip(expected.buffers(), student.buffers(), strict=True):
                old.copy_(buffer)
        teacher.update(0.0)
        for name, value in teacher.module.state_dict().items():
            assert torch.equal(value, expected.state_dict()[name]), name


def test_small_steps_of_a_bf16_student_are_not_lost() -> None:
    student = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(student.weight)
    teacher = EMA(student, decay=0.999, final=0.999)
    nn.init.constant_(student.weight, 2.0)
    for _ in range(100):
        teacher.update(0.0)
    assert_close(teacher.module.weight.item(), 2 - 0.999**100, rtol=1e-5, atol=0)


def test_decay_goes_from_first_to_final() -> None:
    teacher = EMA(nn.Linear(1, 1), decay=0.9, final=0.98)
    assert_close([teacher.decay_at(progress) for progress in (0.0, 0.5, 1.0, 1.2)], [0.9, 0.94, 0.98, 0.98])


def test_buffers_are_copied() -> None:
    student = Small()
    teacher = EMA(student)
    train_a_little(student)
    teacher.update(0.0)
    assert_close(list(teacher.module.buffers()), list(student.buffers()), rtol=0, atol=0)
    assert teacher.module.layers[1].num_batches_tracked == 1


def test_nothing_trains_it_and_it_changes_nothing() -> None:
    student = Small()
    before = copy.deepcopy(student.state_dict())
    teacher = EMA(student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    train_a_little(teacher.module)
    assert_close(student.state_dict(), before, rtol=0, atol=0)


def test_the_student_is_not_part_of_the_teacher() -> None:
    student = Small()
    teacher = EMA(student)
    assert {name.partition(".")[0] for name in teacher.state_dict()} == {"module"}
    assert not {id(parameter) for parameter in student.parameters()} & {
        id(parameter) for parameter in teacher.parameters()
    }


def test_calling_it_calls_the_copy() -> None:
    student = Small().eval()
    view = View(torch.randn(5, 3))
    expected = student(view)
    teacher = EMA(student)
    train_a_little(student)
    assert torch.equal(teacher(view), expected)


def test_state_dict_goes_round() -> None:
    student = Small()
    teacher, other = EMA(student), EMA(Small())
    train_a_little(student)
    teacher.update(0.0)
    other.load_state_dict(teacher.state_dict())
    assert_close(other.state_dict(), teacher.state_dict(), rtol=0, atol=0)


def test_a_copied_method_has_a_teacher_of_its_own_student() -> None:
    method = nn.Module()
    method.student = Small(4)
    method.teacher = EMA(method.student, decay=0.0, final=0.0)
    twin = copy.deepcopy(method)
    train_a_little(twin.student)
    twin.teacher.update(0.0)
    assert_close(twin.teacher.module.state_dict(), twin.student.state_dict())
    assert twin.teacher.module.init_args == method.student.init_args == {"dim": 4}


class WithTeacher(nn.Module):
    """A linear layer and its teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(4, 4)
        self.teacher = EMA(self.student, 0.999, final=0.999)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_teacher_of_a_method_in_half_precision_stays_float32_and_follows(dtype: torch.dtype) -> None:
    """Steps of 1 - 0.999 would be rounded away; it computes as the student does."""
    method = WithTeacher().to(dtype)
    copied = method.teacher.module.weight
    assert copied.dtype == torch.float32 and method.student.weight.dtype == dtype
    start = copied.clone()
    with torch.no_grad():
        method.student.weight += 0.5
    for _ in range(100):
        method.teacher.update(0.0)
    expected = start + (1 - 0.999**100) * (method.student.weight.float() - start)
    assert_close(copied, expected, rtol=1e-4, atol=1e-5)
    x = torch.randn(3, 4).to(dtype)
    assert method.teacher(x).dtype == dtype
    assert_close(method.teacher(x).float(), method.teacher.module(x.float()), rtol=0.02, atol=0.02)
    assert method.teacher.double().module.weight.dtype == torch.float64


def test_a_copy_that_was_itself_cast_to_half_precision_is_refused() -> None:
    teacher = EMA(nn.Linear(1, 1))
    teacher.module.bfloat16()
    with pytest.raises(TypeError, match="half precision"):
        teacher.update(0.0)


@pytest.mark.parametrize("shares", [{"decay": 1.5}, {"final": -0.1}])
def test_a_share_outside_0_to_1_is_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"EMA\((decay=1.5|final=-0.1)\) must be at least 0 and at most 1"):
        EMA(nn.Linear(1, 1), **shares)
