"""What a file of vectors holds, as tensors and lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ssl_lightning.evaluation.use.rows import read_rows, vectors_in


def load_vectors(path: Path) -> dict[str, Any]:
    """`features` [N, D] and `index` [N] as tensors; `path`, `split` and `label` as lists."""
    table = read_rows(path)
    lists = {name: table[name].to_pylist() for name in ("path", "split", "label")}
    features, index = torch.from_numpy(vectors_in(table).copy()), torch.tensor(table["index"].to_pylist())
    return {"features": features, "index": index, **lists}
