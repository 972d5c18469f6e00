"""The contract of a format: which encoders it holds, how they are written and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..inputs import Inputs
from ..subject import Subject


class Refused(ValueError):
    """A format does not hold an encoder; the message is the reason, as a sentence without a
    subject: "is not a ResNet".

    Args:
        reason: the message.
        also: names of other formats that do not hold it for the same reason.
    """

    def __init__(self, reason: str, also: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.also = also


class Format(ABC):
    """A format of another library.

    A subclass raises `Refused` in `check` where it does not hold an encoder; `features` uses the
    other library alone, as the lines that the card shows do.
    """

    name: ClassVar[str]
    """What `--format` takes."""
    library: ClassVar[str]
    """What loads it, in words."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Modules that must be installed to write it."""
    extra: ClassVar[str] = ""
    """The extra of this package that brings them."""
    weights: ClassVar[str] = "model.safetensors"
    """The file whose hash the card names."""

    def check_installed(self) -> None:
        """Raises ImportError where a module is missing that this format needs."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise ImportError(
                f"The format {self.name} needs {' and '.join(missing)}: pip install 'ssl-lightning[{self.extra}]'."
            )

    @abstractmethod
    def check(self, subject: Subject) -> None:
        """Raises `Refused` where the format does not hold the subject's encoder."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> None:
        """Writes the encoder into an empty folder."""

    @abstractmethod
    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        """Computes features [S, dim] of what the folder holds, with the other library alone."""

    @abstractmethod
    def lines(self, subject: Subject, folder: str) -> str:
        """The Python that loads the folder and computes `features` of `x`, and `mask` if there is
        one, with the other library alone."""

    def facts(self, subject: Subject) -> dict[str, Any]:
        """What the card says of this format besides the facts of the encoder."""
        return {}


def means(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of tokens [S, N, D] that are not padding."""
    if mask is None:
        return tokens.mean(1)
    return (tokens * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def tensors_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A state dict on the CPU, each tensor contiguous and with memory of its own."""
    state = module.state_dict()
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
