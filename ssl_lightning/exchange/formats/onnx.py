"""ONNX: a graph that onnxruntime and others compute."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused
from .torch import check_traceable, program_of, result_of, shape_of

LINES = """import onnxruntime

session = onnxruntime.InferenceSession("{folder}/encoder.onnx")
({result},) = session.run(None, {{{arguments}}})  # {shape}
"""


class Onnx(Format):
    """Any encoder is a graph with a dynamic batch, and of any length where samples have a mask."""

    name, library, weights = "onnx", "ONNX (onnxruntime)", "encoder.onnx"
    needs, extra = ("onnx", "onnxscript", "onnxruntime"), "export"

    def check(self, subject: Subject) -> None:
        check_traceable(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        program, names = program_of(subject), ("x", "mask")[: len(subject.inputs.tensors)]
        try:
            with quiet():
                graph: Any = torch.onnx.export(
                    program, dynamo=True, input_names=list(names), output_names=[result_of(subject)], verbose=False
                )
                graph.save(folder / self.weights, external_data=too_large(subject))
        except Exception as error:  # whatever the translation of an operation raises
            reason = " ".join(str(error).split())[:200]
            raise Refused(
                f"holds a {type(subject.encoder).__name__} that torch.onnx.export cannot translate: {reason}"
            ) from error

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / self.weights), providers=["CPUExecutionProvider"])
        given = dict(zip(("x", "mask"), (tensor.numpy() for tensor in inputs.tensors), strict=False))
        return torch.from_numpy(session.run(None, given)[0])

    def lines(self, subject: Subject, folder: str) -> str:
        names = ("x", "mask")[: len(subject.inputs.tensors)]
        arguments = ", ".join(f'"{name}": {name}.numpy()' for name in names)
        return LINES.format(folder=folder, result=result_of(subject), arguments=arguments, shape=shape_of(subject))


def too_large(subject: Subject) -> bool:
    """Whether the weights do not fit into one file of protobuf, of 2 GB."""
    return sum(parameter.numel() * 4 for parameter in subject.encoder.parameters()) > 1_500_000_000


@contextlib.contextmanager
def quiet() -> Any:
    """Silences the exporter's progress, which goes to stdout, and its warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
