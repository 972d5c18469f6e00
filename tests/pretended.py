"""A pretended accelerator with values, on the CPU: a tensor of the host that meets one of the
device raises, as on a GPU, and so does a process group that is given one, as NCCL does.

A tensor of it wraps one of the CPU's. The device is called "lazy", since torch has the name and
runs the backward pass of such tensors in the calling thread; "cuda" would ask a driver.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning_fabric.utilities.distributed import _init_dist_connection
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ssl_lightning import distributed

KIND = "lazy"
aten = torch.ops.aten
CROSSING = {aten._to_copy, aten.to, aten.copy_}
"""Operations from one device to another."""
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations that take their indices from the host too."""
EQUAL = {aten.cat.default, aten.stack.default}
"""Operations that do not take a scalar of the host either."""


class Pretended(Tensor):
    """A tensor on the pretended accelerator."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor, index: int) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=f"{KIND}:{index}", requires_grad=False,
        )  # fmt: skip
        made.host = host
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return perform(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()  # torch's refuses subclasses

    def new_tensor(self, data: Any, *, dtype: Any = None, **kwargs: Any) -> Any:
        return torch.tensor(data, dtype=dtype or self.dtype, device=self.device)

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"Pretended({self.host!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.host.__reduce_ex__(protocol)  # a checkpoint of it is one of the host


def on_host(leaf: Any) -> Any:
    """A tensor of the host in place of one of the accelerator, and the host in its place."""
    if isinstance(leaf, torch.device) and leaf.type == KIND:
        return torch.device("cpu")
    return leaf.host if isinstance(leaf, Pretended) else leaf


def of_the_run(func: Any, args: Any) -> bool:
    """Whether a collective exchanges tensors within the group of the run; another group may be of
    gloo, which takes those of the host."""
    groups = [leaf for leaf in args if isinstance(leaf, torch.ScriptObject) and "ProcessGroup" in str(leaf._type())]
    world = dist.group.WORLD
    own = [dist.ProcessGroup.unbox(group).group_name for group in groups]
    return "barrier" not in func.__name__ and (world is None or own in ([], [world.group_name]))


def perform(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on tensors of the accelerator, of the host, or between the two."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    inside = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    if func.namespace == "c10d" and refuses_host and len(inside) < len(tensors) and of_the_run(func, args):
        raise RuntimeError("No backend type associated with device type cpu")
    outside = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and (tensor.ndim or func in EQUAL)]
    if inside and outside and func.overloadpacket not in CROSSING and func not in INDEXING:
        raise RuntimeError(f"Expected all tensors to be on the same device, in {func}")
    named = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    devices = named or [tensor.device for tensor in inside]
    index = (devices[0].index or 0) if devices and devices[0].type == KIND else None
    if func is aten.copy_.default and not isinstance(args[0], Pretended):
        index = None
    mapped = tree_map(on_host, (args, kwargs))
    result = func(*mapped[0], **mapped[1])
    returned = [
        argument for argument, schema in zip(args, func._schema.arguments, strict=False)
        if schema.alias_info is not None and schema.alias_info.is_write
    ]  # fmt: skip
    if returned and isinstance(result, Tensor) and isinstance(returned[0], Tensor):
        return returned[0]  # in place
    return tree_map(
        lambda leaf: Pretended(leaf, index) if index is not None and isinstance(leaf, Tensor) else leaf, result
    )


refuses_host = False
"""Whether the process group takes tensors of the accelerator alone, as NCCL does."""


class Driver(TorchDispatchMode):
    """While it is entered, tensors can be made on the accelerator and moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return perform(func, args, kwargs or {})


class PretendedAccelerator(CPUAccelerator):
    """Lightning's part of it."""

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(KIND, index) for index in range(int(devices))]

    def setup_device(self, device: torch.device) -> None:
        """Nothing is to be set."""


class PretendedDDP(DDPStrategy):
    """Several processes with an accelerator each. DistributedDataParallel is C++ that reads memory:
    in its place the processes start with equal weights, and average no gradients."""

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._process_group_backend = "gloo"
        assert self.cluster_environment is not None
        _init_dist_connection(self.cluster_environment, "gloo", timeout=self._timeout)

    def configure_ddp(self) -> None:
        """Leaves the module as it is."""

    def determine_ddp_device_ids(self) -> None:
        return None


@contextmanager
def pretended(processes: int = 1) -> Iterator[Callable[[], dict[str, Any]]]:
    """Gives the arguments of a trainer on the pretended accelerator."""
    global refuses_host
    objects = (dist.all_gather_object, dist.broadcast_object_list)

    def as_nccl(exchange: Any) -> Any:
        def exchanged(*args: Any, **kwargs: Any) -> Any:
            global refuses_host
            refuses_host = False  # it copies objects to the accelerator by itself
            try:
                return exchange(*args, **kwargs)
            finally:
                refuses_host = True

        return exchanged

    def on_host_first(make: Any) -> Any:
        """torch makes such tensors below the modes."""

        def making(data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
            if device is None or torch.device(device).type != KIND:
                return make(data, dtype=dtype, device=device, **kwargs)
            host = data if isinstance(data, Tensor) else make(data, dtype=dtype, **kwargs)
            return host.to(device, dtype)

        return making

    with pytest.MonkeyPatch.context() as patch, Driver():
        for make in (torch.tensor, torch.as_tensor):
            patch.setattr(torch, make.__name__, on_host_first(make))
        patch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # none is known for the name
        patch.setattr(torch, "is_autocast_enabled", lambda *args: False)
        patch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: [KIND])
        if processes > 1:
            refuses_host = True
            patch.setattr(distributed, "_devices", lambda: [KIND])
            patch.setattr("pytorch_lightning.strategies.ddp._sync_module_states", lambda module: None)
            for exchange in objects:
                patch.setattr(dist, exchange.__name__, as_nccl(exchange))

        def settings() -> dict[str, Any]:
            accelerator = PretendedAccelerator()
            if processes == 1:
                return {"strategy": SingleDeviceStrategy(torch.device(KIND, 0), accelerator)}
            return {"strategy": PretendedDDP(accelerator), "devices": processes}

        yield settings
        refuses_host = False
