"""torch: a program of `torch.export`, which needs torch alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ...encoders.classifier import Classifier
from ...encoders.transformers_model import OfTransformers
from ..inputs import Callable, Inputs
from ..subject import Subject
from .base import Format, Refused

LINES = """encoder = torch.export.load("{folder}/encoder.pt2").module()
with torch.no_grad():
    {result} = encoder({arguments})  # {shape}
"""
TRACED = ("onnx", "torch")
"""The formats that are a graph."""
DYNAMIC = {0: Dim("batch", min=1)}


class Torch(Format):
    """Any encoder is a graph with a dynamic batch, and of any length where samples have a mask."""

    name, library, weights = "torch", "torch (torch.export)", "encoder.pt2"

    def check(self, subject: Subject) -> None:
        check_traceable(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that share memory, which it writes once
            torch.export.save(program_of(subject), folder / self.weights)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        program = torch.export.load(folder / self.weights).module()
        with torch.no_grad():
            features: Tensor = program(*inputs.tensors)
        return features

    def lines(self, subject: Subject, folder: str) -> str:
        arguments = ", ".join(("x", "mask")[: len(subject.inputs.tensors)])
        return LINES.format(folder=folder, result=result_of(subject), arguments=arguments, shape=shape_of(subject))


def program_of(subject: Subject) -> ExportedProgram:
    """The exported program of an encoder.

    Raises:
        Refused: torch cannot trace it.
    """
    inputs = subject.inputs.repeated(2)
    length = {} if inputs.mask is None else {inputs.x.ndim - 1: Dim.AUTO}
    shapes = [{**DYNAMIC, **length}, {**DYNAMIC, 1: Dim.AUTO}][: len(inputs.tensors)]
    try:
        with torch.no_grad():
            return torch.export.export(Callable(subject.encoder).eval(), inputs.tensors, dynamic_shapes=tuple(shapes))
    except Exception as error:  # whatever the tracing of a stranger's forward raises
        reason = " ".join(str(error).split())[:200]
        kind = type(subject.encoder).__name__
        raise Refused(f"holds a {kind} that torch.export cannot trace: {reason}", TRACED) from error


def check_traceable(subject: Subject) -> None:
    """Raises `Refused` for encoders whose forward depends on the lengths in a batch: no graph holds
    it."""
    encoder = subject.encoder.encoder if isinstance(subject.encoder, Classifier) else subject.encoder
    if isinstance(encoder, OfTransformers):
        kind = type(encoder).__name__
        raise Refused(f"holds a {kind}, whose steps depend on the lengths in a batch, so that no graph has them")


def result_of(subject: Subject) -> str:
    """What the encoder computes, as a variable."""
    return "logits" if isinstance(subject.encoder, Classifier) else "features"


def shape_of(subject: Subject) -> str:
    return f"[1, {subject.encoder.dim}]"
