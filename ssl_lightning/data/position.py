"""The position of a training in its endless order of samples, and whether a later run may resume
there."""

from __future__ import annotations

from typing import Any

from ..run.lightning import batches_done
from .buckets import Buckets
from .order import NEWEST, check_version
from .sources import Source


class Position:
    """The position of a datamodule: the number of samples consumed, or of batches where these are
    planned. Checkpoints hold it, with what the order depends on."""

    seed: int
    batch_size: int
    trainer: Any
    _base = 0
    _base_batches: int | None = None
    """Batches that training had consumed at `_base`; None: unknown until the loop's counters are
    restored."""
    order_version = NEWEST
    """The version of the `Order`: a run that is resumed keeps the one it began with."""

    @property
    def training_split(self) -> Source:
        """The samples to train on."""
        raise NotImplementedError

    @property
    def buckets(self) -> Buckets | None:
        """The plan of batches of samples of similar length; None: each batch has `batch_size`
        samples, in any order."""
        return None

    @property
    def world_size(self) -> int:
        """The number of processes that share a batch."""
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def position(self) -> int:
        """The number of samples of the endless order that training has consumed (not prefetched);
        of batches where these are planned."""
        if self._base_batches is None:
            return self._base
        batches = batches_done(self.trainer) - self._base_batches
        return self._base + batches * (self.batch_size if self.buckets is None else 1)

    @property
    def samples_done(self) -> int:
        """The number of samples that training has consumed."""
        return self.position if self.buckets is None else self.position * self.batch_size

    def start_again(self) -> None:
        """Sets the position to the start of the order."""
        self._base, self._base_batches, self.order_version = 0, None, NEWEST

    def fix_position(self) -> int:
        """Returns the position, from which on consumed batches are counted."""
        self._base, self._base_batches = self.position, batches_done(self.trainer)
        return self._base

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "order": self.order_version, **self.order()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position.

        Raises:
            ValueError: the checkpoint's run had another order of samples.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # an encoder may be evaluated on other samples
        for name, value in self.order().items():
            if state_dict.get(name, value) != value:
                raise ValueError(
                    f"The checkpoint was trained with {name}={state_dict[name]}, this run has {name}={value}: the order"
                    " of the samples would change. Resume with the settings of the run, or start from its weights with"
                    " ssl_lightning.load."
                )
        self.order_version = check_version(state_dict.get("order", 1))
        self._base, self._base_batches = int(state_dict["position"]), None

    def order(self) -> dict[str, Any]:
        """Returns what the order of the samples depends on, as plain values."""
        train = self.training_split
        order = {"samples": len(train), "seed": self.seed, "fingerprint": train.fingerprint}
        if self.buckets is not None:
            order |= {"processes": self.world_size, "lengths": self.buckets.fingerprint}
        return order
