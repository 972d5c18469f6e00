"""What the collapse monitor looks at: tensors on their way to the host, and what they say."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from ...nn.spread import agreement, effective_rank

ORDER = ("std", "rank", "agreement", "growth")


class Look:
    """What a look needs of tensors, on its way to the host, which need not wait for it."""

    def __init__(self, values: dict[str, Tensor], **seen: Tensor) -> None:
        tensors = {**values, **seen}
        self.tensors = {name: each.to("cpu", non_blocking=True) for name, each in tensors.items()}
        device = next((each.device for each in tensors.values()), torch.device("cpu"))
        copies = device.type != "cpu" and torch.accelerator.is_available()
        self.arrived = torch.accelerator.current_stream().record_event() if copies else None

    def __call__(self) -> dict[str, float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        values = dict(self.tensors)
        if "embeddings" in values:
            values["rank"] = effective_rank(values.pop("embeddings"))
        if "pairs" in values:
            values["agreement"] = agreement(values.pop("pairs"))
        return {f"collapse/{name}": float(values[name]) for name in sorted(values, key=ORDER.index)}


def norm_of(method: torch.nn.Module) -> Tensor:
    """The norm of a method's weights: of all that are matrices or more."""
    return get_total_norm([each.detach() for each in method.parameters() if each.ndim > 1])


def paired(features: list[Tensor], samples: int) -> Tensor | None:
    """[S, 2, D]: the features of the two views that an encoder was given first, one after the other
    or together (`types.joined`); None: it was not given two views of all samples."""
    first: list[Tensor] = []
    for each in features:
        if each.ndim != 2 or len(each) % samples or (first and each.shape[1] != first[0].shape[1]):
            return None
        first += each.split(samples)
        if len(first) >= 2:
            return torch.stack(first[:2], dim=1).float()
    return None
