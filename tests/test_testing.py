"""The conformance kit turns away what breaks a claim, and names the claim: one small broken plug-in
(or more) for every check."""

from __future__ import annotations

import itertools
import random
import traceback
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_lightning import Batch, Encoder, SSLMethod, Step, TokenEncoder, View, ViewSpec
from ssl_lightning.data.sources import InMemory
from ssl_lightning.nn.ema import EMA
from ssl_lightning.testing import DATAMODULE_CHECKS, METHOD_CHECKS, TinyImages, check_datamodule, check_method


class Good(SSLMethod):
    """Views agree while each feature keeps its spread. Every broken method below differs from it in
    one thing."""

    views = ViewSpec(full=2)

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.head = nn.Linear(encoder.dim, 4)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        z1, z2 = (self.head(self.encoder(view)) for view in batch["views"][:2])
        return z1, z2

    def per_sample(self, batch: Batch) -> Tensor:
        z1, z2 = self.embed(batch)
        return (z1 - z2).square().sum(1) + (1 - z1.std(0)).relu().mean()  # [S]

    def step(self, batch: Batch) -> Step:
        return {"loss": self.per_sample(batch).mean()}


class GoodOnTokens(Good):
    """With a teacher, dropout and tokens, none of which the kit objects to."""

    def __init__(self, encoder: TokenEncoder, *, p: float = 0.1, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.dropout = nn.Dropout(p)
        self.teacher = EMA(self.encoder)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        view1, view2 = batch["views"]
        return self.head(self.dropout(self.encoder(view1))), self.head(self.teacher(view2))


class Unannotated(Good):
    """Does not say what encoder it needs."""

    def __init__(self, encoder) -> None:  # type: ignore[no-untyped-def]
        super().__init__(encoder)


class EncoderLater(Good):
    """Takes the encoder among the others."""

    def __init__(self, *, size: int = 4, encoder: Encoder) -> None:
        super().__init__(encoder)


class Positional(Good):
    """An argument that could be given by place."""

    def __init__(self, encoder: Encoder, size: int = 4) -> None:
        super().__init__(encoder)


class NoDefault(Good):
    """An argument without a default."""

    def __init__(self, encoder: Encoder, *, size: int) -> None:
        super().__init__(encoder)


class NoSpec(Good):
    """A number for views."""

    views = 2  # type: ignore[assignment]


class Silent(Good):
    __doc__ = None


class NaN(Good):
    """The logarithm of a negative number."""

    def per_sample(self, batch: Batch) -> Tensor:
        return (-1 - super().per_sample(batch)).log()


class PerSample(Good):
    """A loss for each sample."""

    def step(self, batch: Batch) -> Step:
        return {"loss": self.per_sample(batch)}


class NoLoss(Good):
    """A loss by another name."""

    def step(self, batch: Batch) -> Step:
        return {"total": self.per_sample(batch).mean()}  # type: ignore[return-value]


class Divides(Good):
    """A number out of range goes into the loss."""

    def __init__(self, encoder: Encoder, *, parts: int = 1, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.parts = parts

    def step(self, batch: Batch) -> Step:
        return {"loss": self.per_sample(batch).mean() / self.parts}


class FurtherKey(Good):
    """A key that nobody reads."""

    def step(self, batch: Batch) -> Step:
        return {**super().step(batch), "accuracy": 1.0}  # type: ignore[typeddict-unknown-key]


class Neighbours(Good):
    """Asks for five neighbours in any batch."""

    def per_sample(self, batch: Batch) -> Tensor:
        z1, z2 = self.embed(batch)
        return torch.cdist(z1.float(), z2.float()).topk(5, largest=False).values.mean(1) + (1 - z1.std(0)).relu().mean()


class Halves(Good):
    """Compares the halves of a batch, of which thirteen samples have none."""

    def per_sample(self, batch: Batch) -> Tensor:
        one, two = super().per_sample(batch).view(2, -1)
        return one + two


class Grows(Good):
    """A buffer as long as the batch."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.register_buffer("latest", torch.zeros(0), persistent=False)

    def step(self, batch: Batch) -> Step:
        self.latest = torch.zeros(len(batch["key"]))
        return super().step(batch)


class Idle(Good):
    """A layer that is not used."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.idle = nn.Linear(2, 2)


class TaughtTeacher(GoodOnTokens):
    """A teacher that learns by gradient."""

    def __init__(self, encoder: TokenEncoder) -> None:
        super().__init__(encoder)
        self.teacher.requires_grad_(True)


class ReadsLabel(Good):
    """Supervised in secret."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) * batch["label"]


class ReadsLabelIfThere(Good):
    """Supervised where it can be."""

    def per_sample(self, batch: Batch) -> Tensor:
        loss = super().per_sample(batch)
        return loss * batch["label"] if "label" in batch else loss


class DrawsFromNumpy(Good):
    """Numpy's generator."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) * np.random.rand()


class DrawsFromPython(Good):
    """Python's generator, for nothing."""

    def per_sample(self, batch: Batch) -> Tensor:
        random.random()
        return super().per_sample(batch)


class DrawsFromTorch(Good):
    """Torch's default generator, one number for all."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) * torch.rand(())


class ByPlace(Good):
    """Weighs samples by their place in the batch."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) * torch.arange(len(batch["index"]))


class NoisePerPlace(Good):
    """Noise that belongs to the place and not to the sample."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) * torch.rand(len(batch["index"]), generator=torch.Generator().manual_seed(0))


class Cancels(Good):
    """The difference of large numbers."""

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        z1, z2 = super().embed(batch)
        return z1 + 500, z2 + 500


class NotInHalf(Good):
    """An operation that bfloat16 has not."""

    def per_sample(self, batch: Batch) -> Tensor:
        return super().per_sample(batch) + torch.pdist(self.embed(batch)[0]).mean()


class Remembers(Good):
    """Its size depends on what was built before."""

    built: ClassVar = itertools.count(1)

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.register_buffer("memory", torch.zeros(next(self.built)))


class Forgets(Good):
    """A running number that no checkpoint holds."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.scale = 1.0

    def step(self, batch: Batch) -> Step:
        return {"loss": super().step(batch)["loss"] * self.scale}

    def after_update(self, states: list[Any]) -> None:
        self.scale *= 1.5


class Projects(Good):
    """`forward` gives the projection, not the features of the network to keep."""

    def forward(self, view: View) -> Tensor:
        return self.head(super().forward(view))


BROKEN_METHODS: dict[str, tuple[type[SSLMethod], ...]] = {
    "says_what_encoder_it_needs": (Unannotated, EncoderLater),
    "arguments_have_defaults": (Positional, NoDefault),
    "asks_for_views": (NoSpec,),
    "says_what_it_is": (Silent,),
    "loss_is_a_finite_scalar": (NaN, PerSample, NoLoss, FurtherKey),
    "odd_and_small_batches_work": (Neighbours, Halves),
    "buffers_keep_their_shape": (Grows,),
    "every_parameter_learns": (Idle, TaughtTeacher),
    "loss_is_reproducible": (DrawsFromNumpy, DrawsFromPython, DrawsFromTorch),
    "labels_are_not_read": (ReadsLabel, ReadsLabelIfThere),
    "order_of_samples_does_not_matter": (ByPlace, NoisePerPlace),
    "bf16_is_close": (Cancels, NotInHalf),
    "config_rebuilds_it": (Remembers,),
    "resume_is_exact": (Forgets, Projects),
    "numbers_are_in_range": (Divides,),
}


class Twist(nn.Module):
    """A transform, and what breaks it."""

    def __init__(self, transform: nn.Module, how: str, clean: bool) -> None:
        super().__init__()
        self.transform, self.how, self.clean, self.calls = transform, how, clean, 0
        self.unpicklable = (lambda x: x) if how == "lambda" else None

    def forward(self, raw: Tensor, key: Tensor) -> Tensor:
        x: Tensor = self.transform(raw, torch.zeros_like(key) if self.how == "no key" else key)
        self.calls += 1
        match self.how:
            case "nan":
                return x / 0
            case "short":
                return x[:-1]
            case "batch mean":
                return x - x.mean()
            case "calls":
                return x if self.clean else x * self.calls
            case "noisy clean":
                return x + key.view(-1, 1, 1, 1) % 7
            case "torch":
                torch.rand(1)
            case "numpy":
                np.random.rand()
            case "python":
                random.random()
            case "worker":
                return x if torch.utils.data.get_worker_info() is None else x + 1
        return x


class Twisted(TinyImages):
    """Images whose transform is broken."""

    how = ""

    def transform(self, strength: Any, local_size: int | None = None) -> nn.Module:
        return Twist(super().transform(strength, local_size), self.how, strength == "none")


def twisted(how: str) -> type[Twisted]:
    """A class of its own at the top of this module, where a config can name it."""
    name = "Twisted" + "".join(word.title() for word in how.split())
    cls = type(name, (Twisted,), {"__doc__": Twisted.__doc__, "__module__": __name__, "how": how})
    globals()[name] = cls
    return cls


class Nameless(TinyImages):
    __doc__ = None


class Stuck(TinyImages):
    """The same batch again and again."""

    def train_dataloader(self) -> Any:
        return itertools.repeat(next(super().train_dataloader()))


class RefusesLocal(TinyImages):
    """Says that it serves local views, and does not."""

    def transform(self, strength: Any, local_size: int | None = None) -> nn.Module:
        if local_size is not None:
            raise ValueError("no small crops here")
        return super().transform(strength)

    def local_size(self, spec: ViewSpec) -> int | None:
        return spec.local_size


class LargeLocal(TinyImages):
    """Local views of full size."""

    def transform(self, strength: Any, local_size: int | None = None) -> nn.Module:
        return super().transform(strength)


class NoEncoder(TinyImages):
    """No default encoder."""

    default_encoders: ClassVar = {}


class UnknownKind(TinyImages):
    """A default for a kind that there is not."""

    default_encoders: ClassVar = {"encoder": {"class_path": "ssl_lightning.testing.TinyEncoder"}}


class WrongKind(TinyImages):
    """A default that cannot be masked, for methods that mask."""

    default_encoders: ClassVar = {"TokenEncoder": {"class_path": "ssl_lightning.testing.TinyEncoder"}}


class WrongChannels(TinyImages):
    """An encoder for colour, on grey images."""

    default_encoders: ClassVar = {"Encoder": {"class_path": "conv", "init_args": {"channels": 3}}}


class RawImages(TinyImages):
    """Raw features in the shape of images."""

    def raw_features(self, raw: Tensor) -> Tensor:
        return raw.float()


class RawInfinite(TinyImages):
    """Raw features that are no numbers."""

    def raw_features(self, raw: Tensor) -> Tensor:
        return super().raw_features(raw) / 0


class Steps(TinyImages):
    """A number out of range is refused by somebody who does not know its name."""

    def __init__(self, *, every: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.every = every

    def source(self, split: Any) -> Any:
        return super().source(split) if len(range(0, 64, self.every)) else None


class DrawsInFetch(TinyImages):
    """Draws in `fetch`, as a random crop of a long sample would."""

    def source(self, split: Any) -> Any:
        source = super().source(split)
        assert isinstance(source, InMemory)
        fetch = source.fetch
        source.fetch = lambda index: (torch.rand(1), fetch(index))[1]  # type: ignore[method-assign]
        return source


BROKEN_DATA: dict[str, tuple[type[TinyImages], ...]] = {
    "names_what_it_holds": (Nameless,),
    "views_are_batches": (twisted("nan"), twisted("short")),
    "a_sample_is_alone_with_its_key": (twisted("batch mean"),),
    "passes_and_views_differ": (twisted("no key"), twisted("calls"), twisted("noisy clean")),
    "no_global_generator_is_used": (twisted("torch"), twisted("numpy"), twisted("python"), DrawsInFetch),
    "workers_change_nothing": (twisted("worker"),),
    "a_pass_holds_each_sample_once": (Stuck,),
    "refuses_views_it_has_not": (RefusesLocal, LargeLocal),
    "default_encoder_fits": (NoEncoder, UnknownKind, WrongKind, WrongChannels),
    "raw_features_are_numbers": (RawImages, RawInfinite),
    "it_travels_to_workers": (twisted("lambda"),),
    "numbers_are_in_range": (Steps,),
}


def cases(table: dict[str, tuple[type, ...]]) -> Any:
    pairs = [(claim, cls) for claim, classes in table.items() for cls in classes]
    return pytest.mark.parametrize(("claim", "cls"), pairs, ids=[f"{claim}-{cls.__name__}" for claim, cls in pairs])


def test_every_check_has_something_to_turn_away() -> None:
    assert list(BROKEN_METHODS) == [check.__name__ for check in METHOD_CHECKS]
    assert list(BROKEN_DATA) == [check.__name__ for check in DATAMODULE_CHECKS]


@pytest.mark.parametrize("cls", [Good, GoodOnTokens], ids=lambda cls: cls.__name__)
def test_a_sound_method_passes(cls: type[SSLMethod]) -> None:
    check_method(cls)


def test_a_sound_datamodule_passes() -> None:
    check_datamodule(TinyImages)


@cases(BROKEN_METHODS)
def test_a_broken_method_fails_by_the_claim_it_breaks(claim: str, cls: type[SSLMethod]) -> None:
    with pytest.raises(AssertionError, match=f"^{cls.__name__} fails {claim}: ."):
        check_method(cls)


@cases(BROKEN_DATA)
def test_a_broken_datamodule_fails_by_the_claim_it_breaks(claim: str, cls: type[TinyImages]) -> None:
    with pytest.raises(AssertionError, match=f"^{cls.__name__} fails {claim}: .") as failure:
        check_datamodule(cls)
    assert failure.value.__cause__ is not None
    traceback.clear_frames(
        failure.value.__cause__.__traceback__
    )  # of loaders, whose workers the garbage collector would wait for
