"""The claims that every datamodule must satisfy, as checks."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import torch
import yaml

from ..cli.names import Names
from ..data.datamodule import SSLDataModule
from ..encoders.kinds import KINDS
from ..nn.packing import unpacked
from ..plugins.arguments import argument_defaults
from ..plugins.rebuild import rebuild
from ..plugins.record import config_of
from ..types import Batch, View, ViewSpec
from .runner import check_numbers, class_of, numpy_state, run_checks


class DataKit:
    """Builds equal copies of a datamodule that serves a method which requests two views and a clean
    one."""

    class Asks:
        views = ViewSpec(full=2, clean=True)

    def __init__(self, cls: type[SSLDataModule], **init_args: Any) -> None:
        self.cls, self.init_args = cls, init_args

    def data(self, **changes: Any) -> SSLDataModule:
        data = self.cls(**{"batch_size": 8, **self.init_args, **changes})
        data.prepare_data()
        data.serve(self.Asks())
        return data

    def batch(self, index: list[int], pass_: int = 0, data: SSLDataModule | None = None) -> Batch:
        data = data or self.data()
        train, positions = data.training_split, torch.tensor(index)
        pass_index = torch.full_like(positions, pass_)
        return data.make_batch({"raw": train.fetch(positions), "index": positions, "pass": pass_index})


def names_what_it_holds(kit: DataKit) -> None:
    """The class has a docstring; its first line is the summary that lists show."""
    assert (kit.cls.__doc__ or "").strip(), f"{kit.cls.__name__} has no docstring."


def numbers_are_in_range(kit: DataKit) -> None:
    """Each numeric argument refuses 0 and -1 in one line with its name, or makes finite views with
    them."""

    def build(changes: dict[str, Any]) -> None:
        changed = DataKit(kit.cls, **{**kit.init_args, **changes})
        assert all(view.x.isfinite().all() for view in changed.batch([0, 1])["views"]), (
            f"{changes} makes no finite views."
        )

    check_numbers(kit.cls, build)


def alike(one: View, two: View) -> bool:
    return torch.equal(unpacked(one), unpacked(two))


def views_are_batches(kit: DataKit) -> None:
    """A request for three views gives three, each of S samples and finite."""
    batch = kit.batch([0, 1, 2, 3, 4])
    assert len(batch["views"]) == 3, f"got {len(batch['views'])} views; two views and a clean one were requested."
    for view in batch["views"]:
        assert len(unpacked(view)) == 5, f"a view of 5 samples has the shape {tuple(view.x.shape)}."
        assert not view.x.is_floating_point() or bool(view.x.isfinite().all()), "a view holds NaN or infinity."


def a_sample_is_alone_with_its_key(kit: DataKit) -> None:
    """A sample's views do not depend on the batch it is in."""
    alone, among = kit.batch([3]), kit.batch([5, 3, 0])
    for one, many in zip(alone["views"], among["views"], strict=True):
        first, same = unpacked(one)[0], unpacked(many)[1]
        torch.testing.assert_close(first, same[: len(first)], rtol=1e-5, atol=1e-5)
        assert not bool(same[len(first) :].any()), "a sample is longer in another batch."


def passes_and_views_differ(kit: DataKit) -> None:
    """The same pass repeats its views exactly; another pass and the other view give other views;
    the clean view is the same in every pass."""
    index, data = list(range(8)), kit.data()
    first, again, later = (kit.batch(index, pass_, data) for pass_ in (0, 0, 1))
    for one, two in zip(first["views"], again["views"], strict=True):
        assert torch.equal(one.x, two.x), "the same pass gave other views: draw from the key alone."
    assert not alike(first["views"][0], later["views"][0]), "two passes gave the same views."
    assert not alike(first["views"][0], first["views"][1]), "the two views are the same."
    assert torch.equal(first["views"][2].x, later["views"][2].x), "the clean view changes from pass to pass."


def no_global_generator_is_used(kit: DataKit) -> None:
    """Views draw no random numbers from torch's, numpy's or Python's global generator."""
    data = kit.data()
    before = (torch.random.get_rng_state().tolist(), numpy_state(), random.getstate())
    kit.batch([0, 1], data=data)
    after = (torch.random.get_rng_state().tolist(), numpy_state(), random.getstate())
    assert before == after, "views draw from a global generator; use the key."


def workers_change_nothing(kit: DataKit) -> None:
    """A worker that augments gives the same batches as the main process."""
    loaders = [
        kit.data(workers=0, augment_on="worker").train_dataloader(),
        kit.data(workers=1, augment_on="worker").train_dataloader(),
    ]
    for _ in range(2):
        one, two = (next(loader) for loader in loaders)
        assert torch.equal(one["index"], two["index"]), "workers change the order of the samples."
        for a, b in zip(one["views"], two["views"], strict=True):
            torch.testing.assert_close(a.x, b.x, rtol=1e-5, atol=1e-5)


def a_pass_holds_each_sample_once(kit: DataKit) -> None:
    """The first n draws of the endless order hold each of the n samples once."""
    data = kit.data()
    train = data.training_split
    loader, count = data.train_dataloader(), min(len(train), 4096)
    index = torch.empty(0, dtype=torch.int64)
    while len(index) < count:
        index = torch.cat((index, next(loader)["index"]))
    index = index[:count]
    assert len(index.unique()) == len(index), "a sample comes twice in one pass."


def refuses_views_it_has_not(kit: DataKit) -> None:
    """Local views are smaller than full ones, or are refused with an error message."""

    class AsksLocal:
        views = ViewSpec(full=2, local=2, local_size=8)

    data = kit.data()
    try:
        data.serve(AsksLocal())
    except ValueError as error:
        assert not data.serves_local, f"serves_local is true, but local views are refused: {error}"
    else:
        full, _, *local = kit.batch([0, 1], data=data)["views"]
        assert len(local) == 2, f"got {len(local)} local views; two were requested."
        assert all(view.x[0].numel() < full.x[0].numel() for view in local), "a local view is as large as a full one."


def default_encoder_fits(kit: DataKit) -> None:
    """The data has a default encoder; that of each kind can be built, is of this kind, and accepts
    the clean view."""
    names = Names(yaml.safe_load)
    known = kit.cls.suited_encoders(argument_defaults(kit.cls) | kit.init_args)
    assert known and known.keys() <= KINDS.keys(), (
        f"default_encoders has the keys {sorted(known)}; choose from {', '.join(KINDS)}."
    )
    for kind, short in known.items():
        config = names.expand(short, ("model", "encoder"))
        encoder = rebuild(config, trust=[config["class_path"].partition(".")[0]])
        assert isinstance(encoder, KINDS[kind]), f"the default {kind} is a {type(encoder).__name__}."
        features = encoder.eval()(kit.batch([0, 1])["views"][2])
        assert tuple(features.shape) == (2, encoder.dim), (
            f"the default {kind} gives {tuple(features.shape)}, not (2, {encoder.dim})."
        )


def raw_features_are_numbers(kit: DataKit) -> None:
    """`raw_features` gives one finite vector for each sample."""
    data = kit.data()
    train = data.training_split
    raw = data.raw_features(data.fetch_clean(train, torch.arange(3)))
    assert raw.ndim == 2 and len(raw) == 3 and bool(raw.isfinite().all()), (
        f"raw_features of 3 samples has the shape {tuple(raw.shape)}."
    )


def it_travels_to_workers(kit: DataKit) -> None:
    """Its samples, transforms and config can be pickled and rebuilt, as workers and checkpoints
    need."""
    data = kit.data()
    pickle.loads(pickle.dumps((data.training_split, data.maker)))
    rebuild(config_of(data), trust=[kit.cls.__module__.partition(".")[0]])


DATAMODULE_CHECKS: tuple[Callable[[DataKit], None], ...] = (
    names_what_it_holds,
    views_are_batches,
    a_sample_is_alone_with_its_key,
    passes_and_views_differ,
    no_global_generator_is_used,
    workers_change_nothing,
    a_pass_holds_each_sample_once,
    refuses_views_it_has_not,
    default_encoder_fits,
    raw_features_are_numbers,
    it_travels_to_workers,
    numbers_are_in_range,
)


def check_datamodule(name_or_class: str | type[SSLDataModule], **init_args: Any) -> None:
    """Runs every check of `DATAMODULE_CHECKS` on a datamodule.

    Args:
        name_or_class: an entry-point name, or the class.
        init_args: arguments of the datamodule, such as the folder of its files.

    Raises:
        AssertionError: a claim does not hold; the message says which one and why.
    """
    run_checks(DATAMODULE_CHECKS, DataKit(class_of("ssl_lightning.datamodules", name_or_class), **init_args))
