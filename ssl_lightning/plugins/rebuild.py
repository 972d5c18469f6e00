"""Objects are rebuilt here from the configs that they recorded, within bounds that hold for any
file's config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from .gate import judge, trusted_class

FACTOR = 16
"""Constructors may build parts several times, and drop some."""


class TooLarge(ValueError):
    """A config describes far more than the weights that come with it."""


def rebuild(config: Any, trust: Iterable[str] = (), offline: bool = True, where: str = "The config") -> Any:
    """Builds the object that `config_of` described.

    The config is judged first (`gate.judge`): only classes of this package, of installed plug-ins
    and of what is trusted are imported and built.

    Args:
        config: what `config_of` returned.
        trust: further top-level packages, or class paths, that it may name.
        offline: whether the weights are loaded afterwards, so that nothing is downloaded.
        where: what holds the config, for messages.

    Raises:
        ValueError: a class is not to be trusted, does not exist, or refuses its arguments.
    """
    trust = tuple(trust)
    judge(config, where, trust)
    return _build(config, trust, offline, where)


def _build(config: Any, trust: tuple[str, ...], offline: bool, where: str) -> Any:
    if isinstance(config, list):
        return [_build(item, trust, offline, where) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_path" not in config:
        return {key: _build(item, trust, offline, where) for key, item in config.items()}
    cls = trusted_class(config["class_path"], where, trust)
    init_args = _build(config.get("init_args") or {}, trust, offline, where)
    try:
        return cls(**(cls.offline_args(init_args) if offline else init_args))
    except TooLarge:
        raise
    except Exception as error:
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise ValueError(f"{where} describes a {cls.__name__} that cannot be built: {reason}") from error


def rebuild_for(
    weights: Mapping[str, Tensor], config: Any, kind: type[Any], name: str, trust: Iterable[str] = (), where: str = ""
) -> Any:
    """Builds a module as `rebuild` does, and loads its weights. A config that describes far more
    than these weights is refused before any memory is taken for it.

    Args:
        weights: a state dict.
        config: what `config_of` returned.
        kind: the class that the module must be of.
        name: of this kind, for messages: "an encoder".
        trust, where: as in `rebuild`.

    Raises:
        ValueError: as in `rebuild`; or it is not of this kind, or the weights do not fit.
    """
    trust = tuple(trust)
    check_size(weights, config, trust, where)
    with _about_as_many_as(weights, where):
        module = rebuild(config, trust, where=where)
    if not isinstance(module, kind):
        raise ValueError(f"{where} holds the config of a {type(module).__name__}, which is not {name}.")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        described = type(module).__name__
        reason = " ".join(str(error).partition(":")[2].split())
        reason = reason if len(reason) < 400 else f"{reason[:400]} ..."
        raise ValueError(
            f"The weights in {where} do not fit the {described} that its config describes: {reason}"
        ) from error
    return module


def check_size(weights: Mapping[str, Tensor], config: Any, trust: Iterable[str] = (), where: str = "") -> None:
    """Raises ValueError where a config describes far more than these weights: it is built without
    memory for its values. What else is wrong with it is not said here."""
    try:
        with _about_as_many_as(weights, where), torch.device("meta"):
            rebuild(config, trust, where=where)
    except TooLarge:
        raise
    except ValueError:
        pass  # the constructor may need values


@contextmanager
def _about_as_many_as(weights: Mapping[str, Tensor], where: str) -> Iterator[None]:
    """Raises TooLarge as soon as the modules that are being built have far more parts, or values in
    them, than these weights."""
    tensors = 10_000 + FACTOR * len(weights)
    values = (1 << 26) + FACTOR * sum(tensor.numel() for tensor in weights.values())

    def count(_: nn.Module, name: str, part: Any) -> None:
        nonlocal tensors, values
        tensors -= 1
        values -= part.numel() if isinstance(part, Tensor) else 0
        if tensors < 0 or values < 0:
            raise TooLarge(
                f"{where} describes a network far larger than its weights, which are {len(weights):,} tensors: its"
                " config is damaged or crafted."
            )

    register = (
        register_module_parameter_registration_hook,
        register_module_buffer_registration_hook,
        register_module_module_registration_hook,
    )
    handles = [hook(count) for hook in register]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def offline(config: Any, trust: Iterable[str] = ()) -> Any:
    """The config with the arguments for weights that come from a checkpoint (`offline_args`)."""
    if isinstance(config, list):
        return [offline(item, trust) for item in config]
    if not isinstance(config, dict):
        return config
    changed = {key: offline(value, trust) for key, value in config.items()}
    if "class_path" not in config:
        return changed
    cls = trusted_class(config["class_path"], trust=trust)
    return {**changed, "init_args": cls.offline_args(changed.get("init_args") or {})}
