"""What the collapse monitor looks at: tensors on their way to the host, and what they say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ...nn.spread import effective_rank

ORDER = ("std", "rank", "agreement", "growth")


class OnTheWay:
    """Tensors on their way to the host, which need not wait for them."""

    def __init__(self, **tensors: Tensor) -> None:
        self.tensors = {name: each.to("cpu", non_blocking=True) for name, each in tensors.items()}
        device = next((each.device for each in tensors.values()), torch.device("cpu"))
        copies = device.type != "cpu" and torch.accelerator.is_available()
        self.arrived = torch.accelerator.current_stream().record_event() if copies else None

    def here(self) -> dict[str, Tensor]:
        """The tensors by name, once they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensors


class Look(OnTheWay):
    """What a look of the collapse monitor needs."""

    def __call__(self) -> dict[str, float]:
        tensors = self.here()
        values = {name: float(each) for name, each in tensors.items() if each.ndim == 0}
        if "embeddings" in tensors:
            values["rank"] = float(effective_rank(tensors["embeddings"]))
        if "sums" in tensors:
            both, variance = tensors["sums"].tolist()
            values["agreement"] = both / variance if variance else 0.0
        return {f"collapse/{name}": values[name] for name in ORDER if name in values}


class Features:
    """Keeps the features of a module's calls, while it is asked to."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []
        self.hook: Any = None

    def listen(self, module: nn.Module) -> None:
        """Keeps them from now on."""
        self.stop()
        self.calls = []
        self.hook = module.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, view: Any, features: Any) -> None:
        if isinstance(features, Tensor):
            self.calls.append(features.detach())

    def stop(self) -> None:
        """Keeps no more."""
        if self.hook is not None:
            self.hook.remove()
            self.hook = None

    def take(self, samples: int) -> Tensor | None:
        """[S, 2, D]: of the two views that an encoder was given first, one after the other or
        together (`types.joined`); None: it was not given two views of all samples."""
        calls, self.calls = self.calls, []
        first: list[Tensor] = []
        for each in calls:
            if each.ndim != 2 or len(each) % samples or (first and each.shape[1] != first[0].shape[1]):
                return None
            first += each.split(samples)
            if len(first) >= 2:
                return torch.stack(first[:2], dim=1)
        return None


def norm_of(method: nn.Module) -> Tensor:
    """The norm of a method's weights: of all that are matrices or more."""
    return get_total_norm([each.detach() for each in method.parameters() if each.ndim > 1])
