"""Millions of texts without millions of objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Strings:
    """Texts by number, in two tensors: forked workers share them, since no reference is counted in
    them, and workers that are started afresh get them through shared memory.

    Args:
        texts: N of them, read once.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        encoded, ends = bytearray(), array("q", [0])
        for text in texts:
            encoded += text.encode("utf-8", "surrogatepass")
            ends.append(len(encoded))
        self.encoded = torch.frombuffer(encoded or bytearray(1), dtype=torch.uint8)
        self.ends = tensor_of(ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: int) -> str:
        return self.some(torch.tensor([range(len(self))[number]]))[0]

    def some(self, index: Tensor) -> list[str]:
        """The texts `index` [M], as objects."""
        encoded: Any = memoryview(self.encoded.numpy())  # type: ignore[arg-type]  # numpy's arrays are buffers
        spans = zip(self.ends[index].tolist(), self.ends[index + 1].tolist(), strict=True)
        return [str(encoded[start:end], "utf-8", "surrogatepass") for start, end in spans]


def tensor_of(values: array[int] | array[float]) -> Tensor:
    """The values of an array of integers (`b`, `i`, `q`) or of doubles (`d`) as a tensor, which
    shares their memory."""
    dtype = {"b": torch.int8, "i": torch.int32, "q": torch.int64, "d": torch.float64}[values.typecode]
    return torch.frombuffer(values, dtype=dtype) if values else torch.empty(0, dtype=dtype)
