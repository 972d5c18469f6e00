"""The order of samples is endless and shared out exactly, and what watches a run never leaks into
what is trained."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.fashion_mnist import FashionMNIST
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.augment.random import mix, sample_keys
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.loaders import Fetch
from ssl_lightning.data.order import NEWEST, Draws
from ssl_lightning.data.sources import InMemory, Source, Subset, holdout, stratified_split
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import Strength, ViewSpec


class Asks:
    """What a method asks for, as far as a datamodule looks."""

    def __init__(self, **spec: Any) -> None:
        self.views = ViewSpec(**spec)


class Withheld(TinyImages):
    """Has no validation split of its own."""

    def source(self, split: Split) -> Source | None:
        return None if split == "val" else super().source(split)


class Unlabelled(TinyImages):
    """Has no labels."""

    def source(self, split: Split) -> Source | None:
        source = super().source(split)
        assert isinstance(source, InMemory)
        return InMemory(source.samples)


def trainer(root: Path, **settings: Any) -> ssl_lightning.Trainer:
    return ssl_lightning.Trainer(
        **{
            "max_epochs": 1,
            "accelerator": "cpu",
            "precision": "32-true",
            "enable_progress_bar": False,
            "default_root_dir": root,
            **settings,
        }
    )


def method() -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(TinyEncoder(dim=4), hidden_dim=8, output_dim=4)


def first(draws: Draws, count: int) -> list[list[int]]:
    stream = iter(draws)
    return [next(stream) for _ in range(count)]


# The order.


def test_each_pass_is_a_permutation_and_passes_and_seeds_differ() -> None:
    flat = [draw for batch in first(Draws(10, 0, 0, 4, 0, 1), 25) for draw in batch]
    passes = [flat[start : start + 10] for start in range(0, 100, 10)]
    for number, draws in enumerate(passes):
        assert sorted(draws) == list(range(number * 10, number * 10 + 10)), "a draw holds pass and sample"
    assert len({tuple(draw % 10 for draw in draws) for draws in passes}) == 10
    assert flat != [draw for batch in first(Draws(10, 1, 0, 4, 0, 1), 25) for draw in batch]


def test_batches_reach_across_passes_and_are_always_full() -> None:
    batches = first(Draws(10, 0, 0, 4, 0, 1), 5)
    assert [len(batch) for batch in batches] == [4] * 5
    assert [draw // 10 for draw in batches[2]] == [0, 0, 1, 1]
    assert [draw // 3 for draw in first(Draws(3, 0, 0, 8, 0, 1), 1)[0]] == [0, 0, 0, 1, 1, 1, 2, 2], (
        "more than one pass in a batch"
    )


@pytest.mark.parametrize("position", [1, 9, 10, 11, 37])
def test_the_order_goes_on_from_any_position(position: int) -> None:
    flat = [draw for batch in first(Draws(10, 0, 0, 1, 0, 1), 60) for draw in batch]
    assert [draw for batch in first(Draws(10, 0, position, 4, 0, 1), 5) for draw in batch] == flat[
        position : position + 20
    ]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_the_shares_of_all_processes_join_to_the_batch(world_size: int) -> None:
    alone = first(Draws(10, 0, 7, 6, 0, 1), 8)
    shares = [first(Draws(10, 0, 7, 6, rank, world_size), 8) for rank in range(world_size)]
    for number, batch in enumerate(alone):
        assert [draw for share in shares for draw in share[number]] == batch
        assert len({len(share[number]) for share in shares}) == 1


def test_an_epoch_has_the_whole_batches_of_the_data_and_the_stream_goes_on() -> None:
    data = TinyImages(samples=50, batch_size=16)
    data.serve(Asks())
    stream = data.train_dataloader()
    assert len(stream) == 3 and iter(stream) is stream
    drawn = [next(stream) for _ in range(7)]
    index, passes = (torch.cat([batch[name] for batch in drawn]) for name in ("index", "pass"))
    assert index[:50].sort().values.tolist() == list(range(50)) and index[50:100].sort().values.tolist() == list(
        range(50)
    )
    assert passes.tolist() == [0] * 50 + [1] * 50 + [2] * 12


def test_the_key_of_a_sample_is_a_hash_of_seed_pass_and_index() -> None:
    data = TinyImages(samples=32, seed=5)
    data.serve(Asks(full=1))
    stream = data.train_dataloader()
    for number in range(4):
        batch = data.make_batch(next(stream))
        assert batch["key"].tolist() == [
            key - (1 << 64) if key >> 63 else key
            for key in (mix(5, number // 2, index) for index in batch["index"].tolist())
        ]


class Positions(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.seen.append(trainer.datamodule.state_dict()["position"])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_position_counts_what_was_trained_on_not_what_was_fetched(tmp_path: Path, workers: int) -> None:
    watch, before = Positions(), set(multiprocessing.active_children())
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    bare = pl.Trainer(max_epochs=2, limit_train_batches=3, accelerator="cpu", callbacks=[watch], **quiet)  # type: ignore[arg-type]
    data = TinyImages(workers=workers)
    bare.fit(method(), datamodule=data)
    assert watch.seen == [16, 32, 48, 64, 80, 96]
    assert set(multiprocessing.active_children()) <= before, "a worker outlives the run"
    assert data.state_dict() == {"position": 96, "order": NEWEST, "samples": 64, "seed": 0, "fingerprint": None}


def test_another_order_than_that_of_the_checkpoint_is_refused() -> None:
    state = {"position": 40, "samples": 64, "seed": 0, "fingerprint": None}
    data = TinyImages()
    data.load_state_dict(state)
    assert data.position == 40
    data.serve(Asks())
    assert next(data.train_dataloader())["index"].tolist() == [
        draw % 64 for draw in first(Draws(64, 0, 40, 16, 0, 1), 1)[0]
    ]
    for other, named in (
        (TinyImages(seed=1), "seed=0, this run has seed=1"),
        (TinyImages(samples=32), "samples=64, this run has samples=32"),
    ):
        with pytest.raises(ValueError, match=named):
            other.load_state_dict(state)


# Views.


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"full": 1, "clean": True},
        {"full": 2, "local": 3, "local_size": 8, "clean": True},
        {"strength": ("none", "weak")},
    ],
)
def test_views_come_in_the_order_asked_for(spec: dict[str, Any]) -> None:
    data = TinyImages(samples=32)
    data.serve(Asks(**spec))
    batch = data.make_batch(next(data.train_dataloader()))
    views = ViewSpec(**spec)
    assert [view.x.shape[-1] for view in batch["views"]] == [16] * views.full + [8] * views.local + [16] * views.clean
    train = data.split("train")
    assert train is not None and train.labels is not None
    clean = (train.fetch(batch["index"]).float() / 255 - 0.5) / 0.25
    equal = [view.x.shape == clean.shape and torch.allclose(view.x, clean, atol=1e-5) for view in batch["views"]]
    strengths = views.strengths if isinstance(views.strength, tuple) else ("strong",) * views.full
    assert equal == [strength == "none" for strength in strengths] + [False] * views.local + [True] * views.clean
    assert batch["label"].equal(train.labels[batch["index"]])


@pytest.mark.parametrize("workers", [0, 1])
def test_views_are_the_same_wherever_they_are_made(workers: int) -> None:
    """Bit for bit: before the transfer to the device or after it, in a worker or in the main
    process."""

    def run(workers: int, augment_on: Any) -> list[Any]:
        data = TinyImages(workers=workers, augment_on=augment_on)
        data.serve(Asks(full=2, clean=True))
        stream = data.train_dataloader()
        fetched = [next(stream) for _ in range(5)]
        assert all(("views" in batch) == (augment_on == "worker") for batch in fetched)
        return [data.on_after_batch_transfer(batch, 0) for batch in fetched]

    expected = run(0, "device")
    for augment_on in ("worker", "device"):
        for one, two in zip(expected, run(workers, augment_on), strict=True):
            assert one.keys() == two.keys() and all(
                torch.equal(one[name], two[name]) for name in ("index", "key", "label")
            )
            assert all(torch.equal(a.x, b.x) for a, b in zip(one["views"], two["views"], strict=True))


def test_data_in_memory_is_augmented_by_the_main_process_and_fetched_without_workers(
    with_cores: Callable[[int], None],
) -> None:
    with_cores(16)
    data = TinyImages()
    data.serve(Asks())
    assert not data.in_workers and "raw" in next(data.train_dataloader())
    source = data.split("train")
    assert source is not None
    source.in_memory = False
    assert data.in_workers
    data.workers = 0
    assert "views" in next(data.train_dataloader())
    assert not TinyImages(augment_on="device").in_workers


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TinyImages(batch_size=1), r"batch_size=1\) must be at least 2"),
        (lambda: TinyImages(workers=-1), r"workers=-1\) must be at least 0"),
        (
            lambda: TinyImages(samples=10).serve(Asks()),
            r"TinyImages has 10 training samples, fewer than batch_size=16; set --data\.batch_size 10 or less",
        ),
        (lambda: NoLocal().serve(Asks(local=6, local_size=8)), "Asks asks for 6 local views; NoLocal has none"),
        (lambda: NoSplit().serve(Asks()), "NoSplit has no training split"),
        (lambda: NoSplit().train_dataloader(), "NoSplit has no training split"),
        (lambda: NoSplit().test_dataloader(), "NoSplit has no test split"),
        (lambda: Digits(image_size=4), r"image_size=4\) must be at least 8"),
        (lambda: FashionMNIST("/nowhere", samples=0), "samples=0 is too few; give 2 or more"),
        (
            lambda: FashionMNIST("/nowhere", download=False).split("train"),
            r"no Fashion-MNIST in root='/nowhere': expected /nowhere/FashionMNIST/raw\.",
        ),
    ],
)
def test_what_does_not_go_is_said_in_one_sentence(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


class NoLocal(TinyImages):
    serves_local = False


class NoSplit(TinyImages):
    def source(self, split: Split) -> Source | None:
        return None


def test_an_author_who_forgets_a_part_is_told() -> None:
    class Half(SSLDataModule):
        """Defines nothing."""

    with pytest.raises(NotImplementedError, match=r"Half must define source\(split\)"):
        Half().split("train")
    with pytest.raises(NotImplementedError, match=r"Half must define transform\(strength, local_size\)"):
        Half().transform("none")


# Splits and probes.


def test_a_stratified_split_has_exact_counts() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 17 + [7] * 3)[
        torch.randperm(100, generator=torch.Generator().manual_seed(3))
    ]
    for second in (1, 10, 33, 50, 99):
        one, two = stratified_split(labels, second)
        assert len(two) == second and torch.cat([one, two]).sort().values.equal(torch.arange(100))
        for label, count in ((0, 50), (1, 30), (2, 17), (7, 3)):
            assert abs(int((labels[two] == label).sum()) - count * second / 100) < 1, (
                "each class in proportion, to within one"
            )
    assert stratified_split(labels, 33)[1].equal(stratified_split(labels, 33)[1])
    assert not stratified_split(labels, 33)[1].equal(stratified_split(labels, 33, seed=1)[1])


def test_a_split_draws_from_no_global_generator() -> None:
    before = torch.get_rng_state()
    stratified_split(torch.arange(20) % 4, 5)
    assert before.equal(torch.get_rng_state())


def test_the_withheld_part_is_hidden_from_the_probes_and_not_from_the_pretraining() -> None:
    data = Withheld(samples=64)
    train, val, splits = data.split("train"), data.split("val"), data.probe_splits()
    assert train is not None and splits is not None and isinstance(val, Subset)
    learns, judges = splits
    assert isinstance(learns, Subset) and judges is val and len(val) == 9 and len(learns) == 55
    assert torch.cat([learns.indices, val.indices]).sort().values.equal(torch.arange(64))
    assert val.fetch(torch.arange(9)).equal(train.fetch(val.indices)) and train.labels is not None
    assert val.labels is not None and val.labels.equal(train.labels[val.indices])
    data.serve(Asks())
    stream = data.train_dataloader()
    assert len(torch.cat([next(stream)["index"] for _ in range(4)]).unique()) == 64, "pretraining uses all"


def test_an_own_validation_split_is_used_as_it_is() -> None:
    data = TinyImages()
    splits = data.probe_splits()
    assert splits is not None and splits[0] is data.split("train") and splits[1] is data.split("val")
    assert not isinstance(splits[1], Subset)


def test_probe_sets_are_named_by_their_prefix(tmp_path: Path) -> None:
    data = TinyImages(probe_sets={"other": Withheld(samples=32)})
    assert list(data.probed()) == ["", "other/"]
    run = trainer(tmp_path, callbacks=[Report(enabled=False)])
    run.fit(method(), datamodule=data)
    names = {name for name in run.callback_metrics if name.startswith("probe/")}
    assert names == {"probe/linear/top1", "probe/knn/top1", "probe/other/linear/top1", "probe/other/knn/top1"}


def test_without_labels_a_run_has_no_probes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the pretraining data; a labelled set besides it is probed nevertheless."""
    data = Unlabelled()
    data.serve(Asks())
    assert "label" not in data.make_batch(next(data.train_dataloader())) and data.probe_splits() is None
    run = trainer(tmp_path)
    run.fit(method(), datamodule=Unlabelled())
    assert not any(name.startswith("probe/") for name in run.callback_metrics) and "train/loss" in run.callback_metrics
    line = "No labelled set: no closing table. Unlabelled has no labels in its train and val splits.\n"
    assert line in capsys.readouterr().out
    assert run.run_folder is not None and (run.run_folder / "summary.json").is_file()
    for judge in (run.validate, run.test):
        with pytest.raises(ValueError, match="Unlabelled has no labels in its"):
            judge(method(), datamodule=Unlabelled(), verbose=False)


def test_the_labels_never_reach_the_training(tmp_path: Path) -> None:
    ends = []
    for cls in (TinyImages, Unlabelled):
        model = method()
        trainer(tmp_path / cls.__name__, callbacks=[Report(enabled=False)]).fit(model, datamodule=cls())
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


# Digits and Fashion-MNIST.

DIGITS_TRAIN = [139, 142, 138, 143, 141, 142, 141, 139, 135, 140]
DIGITS_TEST = [39, 40, 39, 40, 40, 40, 40, 40, 39, 40]
DIGITS_SUM = 361389


def test_digits_are_split_as_documented() -> None:
    """The counts of each class are those of a fixed stratified draw; the sums pin the draw
    itself."""
    data = Digits()
    train, test, splits = data.split("train"), data.split("test"), data.probe_splits()
    assert isinstance(train, Subset) and isinstance(test, Subset) and splits is not None
    assert (len(train), len(test), len(splits[0]), len(splits[1])) == (1400, 397, 1200, 200)
    assert torch.cat([train.indices, test.indices]).sort().values.equal(torch.arange(1797))
    counts = [torch.bincount(part.labels).tolist() for part in (train, test, *splits) if part.labels is not None]
    assert counts[0] == DIGITS_TRAIN and counts[1] == DIGITS_TEST
    assert max(counts[2]) - min(counts[2]) < 10 and max(counts[3]) - min(counts[3]) <= 2
    assert int(test.indices.sum()) == DIGITS_SUM, (
        "another draw of the test samples: accuracies are not comparable any more"
    )


@pytest.mark.parametrize("strength", ["weak", "strong", "strong_a", "strong_b"])
def test_a_digit_is_never_mirrored(strength: Strength) -> None:
    """An image that is bright on the left stays so, in 500 views; with flips it would not."""
    left = torch.zeros(500, 1, 8, 8, dtype=torch.uint8)
    left[..., :4] = 255
    transform = Digits().transform(strength)
    views = transform(left, sample_keys(0, 0, torch.arange(500)))
    difference = views[..., :8].mean((1, 2, 3)) - views[..., 8:].mean((1, 2, 3))
    assert bool((difference > -1e-3).all()) and float((difference > 0.1).float().mean()) > 0.8
    top = left.transpose(2, 3)
    views = transform(top, sample_keys(0, 0, torch.arange(500)))
    assert bool((views[..., :8, :].mean((1, 2, 3)) - views[..., 8:, :].mean((1, 2, 3)) > -1e-3).all())


def test_raw_digits_are_their_pixels() -> None:
    data = Digits(image_size=8)
    test = data.split("test")
    assert test is not None
    images = test.fetch(torch.arange(5))
    torch.testing.assert_close(
        data.raw_features(images), ((images.float() / 255 - 0.306) / 0.376).flatten(1), rtol=1e-4, atol=1e-4
    )


def test_a_source_whose_labels_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="There are 3 samples and 2 labels"):
        InMemory(torch.zeros(3, 1), torch.zeros(2))


def test_a_holdout_is_a_seventh_and_at_most_5000() -> None:
    assert [len(holdout(torch.arange(n) % 10)[1]) for n in (10, 1400, 60_000)] == [1, 200, 5000]


def test_an_encoder_may_be_judged_on_other_samples_but_not_trained_further_on_them(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[Report(enabled=False)])
    run.fit(method(), datamodule=TinyImages(samples=40))
    assert run.run_folder is not None
    checkpoint = str(next((run.run_folder / "checkpoints").glob("*.ckpt")))
    later = trainer(tmp_path, callbacks=[Report(enabled=False)])
    later.predict(method(), datamodule=TinyImages(samples=32), ckpt_path=checkpoint, return_predictions=False)
    with pytest.raises(ValueError, match="trained with samples=40, this run has samples=32"):
        trainer(tmp_path, max_epochs=2).fit(method(), datamodule=TinyImages(samples=32), ckpt_path=checkpoint)


def test_each_run_asks_for_its_samples_anew() -> None:
    data = TinyImages()
    before = data.split("train")
    assert data.split("train") is before
    data.setup("fit")
    assert data.split("train") is not before


# Data on the device.


def fitted(
    root: Path, *, ckpt_path: str | None = None, **data: Any
) -> tuple[ssl_lightning.Trainer, dict[str, torch.Tensor]]:
    model, run = method(), trainer(root, max_epochs=4, callbacks=[Report(enabled=False), Checkpoint(keep=9)])
    run.fit(model, datamodule=TinyImages(samples=40, seed=3, **data), ckpt_path=ckpt_path)
    return run, model.state_dict()


def test_data_on_the_device_trains_to_the_same_bits_and_the_same_probes(tmp_path: Path) -> None:
    sent, sent_weights = fitted(tmp_path / "sent")
    kept, kept_weights = fitted(tmp_path / "kept", cache="device")
    assert all(torch.equal(kept_weights[name], value) for name, value in sent_weights.items())
    probes = [
        {name: float(value) for name, value in run.callback_metrics.items() if "speed" not in name}
        for run in (sent, kept)
    ]
    assert probes[0] == probes[1] and any(name.startswith("probe/") for name in probes[0])


def test_data_on_the_device_goes_on_where_it_was(tmp_path: Path) -> None:
    run, whole = fitted(tmp_path / "whole", cache="device")
    assert run.run_folder is not None and run.global_step == 8
    (checkpoint,) = (run.run_folder / "checkpoints").glob("step-*4.ckpt")
    for cache in ("device", "none"):
        _, resumed = fitted(tmp_path / cache, cache=cache, ckpt_path=str(checkpoint))
        assert all(torch.equal(resumed[name], value) for name, value in whole.items()), (
            "where the data lies is no part of the order"
        )


@pytest.mark.parametrize("labelled", [True, False])
def test_of_data_on_the_device_only_indices_are_sent(labelled: bool) -> None:
    data = (TinyImages if labelled else Unlabelled)(samples=40, cache="device")
    plain = (TinyImages if labelled else Unlabelled)(samples=40)
    data.serve(Asks(full=2))
    plain.serve(Asks(full=2))
    sent, whole = next(data.train_dataloader()), next(plain.train_dataloader())
    assert torch.equal(sent["raw"], sent["index"]) and torch.equal(sent["index"], whole["index"])
    assert ("label" in sent) == labelled
    batches = [data.on_after_batch_transfer(sent, 0), plain.on_after_batch_transfer(whole, 0)]
    for one, other in zip(batches[0]["views"], batches[1]["views"], strict=True):
        assert torch.equal(one.x, other.x)


def test_a_part_of_a_set_lies_on_the_device_with_its_own_numbers() -> None:
    whole = InMemory(torch.arange(10.0)[:, None], torch.arange(10))
    part = Subset(whole, torch.tensor([7, 2, 5])).to(torch.device("cpu"))
    assert (
        part.fetch(torch.tensor([2, 0]))[:, 0].tolist() == [5.0, 7.0]
        and part.labels is not None
        and part.labels.tolist() == [7, 2, 5]
    )


def test_samples_go_to_the_device_that_is_asked_for_and_labels_stay() -> None:
    there = InMemory(torch.zeros(4, 1), torch.arange(4)).to(torch.device("meta"))
    assert there.fetch(torch.arange(2, device="meta")).device.type == "meta"
    assert there.labels is not None and there.labels.tolist() == [0, 1, 2, 3]


def test_data_that_lay_on_the_device_does_not_outlive_its_run() -> None:
    data = TinyImages(samples=40, cache="device")
    data.serve(Asks(full=2))
    sent = next(data.train_dataloader())
    data.setup("fit")
    data.serve(Asks(full=2))
    shown = data.on_after_batch_transfer({**sent, "raw": torch.zeros(16, 1, 16, 16, dtype=torch.uint8)}, 0)["views"][
        0
    ].x
    assert bool((shown == shown[0, 0, 0, 0]).all()), "what was sent counts"


def test_a_part_of_a_set_is_in_memory_and_known_as_the_set_is() -> None:
    whole = InMemory(torch.zeros(4, 1))
    whole.fingerprint = "abc"
    part = Subset(whole, torch.tensor([1]))
    assert part.in_memory and part.fingerprint == "abc"
    assert not Subset(Elsewhere(), torch.tensor([0])).in_memory


def test_data_in_memory_needs_no_workers_and_files_have_them_where_cores_are_free(
    with_cores: Callable[[int], None],
) -> None:
    class FromFiles(TinyImages):
        def source(self, split: Split) -> Source | None:
            return Elsewhere()

    def workers(data: SSLDataModule) -> int:
        source = data.training_split
        return data.loader(Fetch(source, dict), []).num_workers

    assert workers(TinyImages()) == 0 and workers(TinyImages(workers=2)) == 2
    for cores, expected in ((2, 0), (6, 6), (64, 8)):
        with_cores(cores)
        assert workers(FromFiles()) == expected and workers(FromFiles(workers=0)) == 0


def test_what_cannot_lie_on_the_device_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="cache='gpu' is unknown; choose none or device"):
        TinyImages(cache="gpu")
    with pytest.raises(ValueError, match="leaves nothing to workers; leave out augment_on=worker"):
        TinyImages(cache="device", augment_on="worker")

    class OnDisk(InMemory):
        in_memory = False

    class FromFiles(TinyImages):
        def source(self, split: Split) -> Source | None:
            found = super().source(split)
            assert isinstance(found, InMemory)
            return OnDisk(found.samples, found.labels)

    with pytest.raises(ValueError, match="cache=device needs data in memory; FromFiles reads it from files"):
        FromFiles(cache="device").serve(Asks(full=2))
    with pytest.raises(ValueError, match="Elsewhere reads samples when they are needed"):
        Elsewhere().to(torch.device("cpu"))


class Elsewhere(Source):
    """Samples that are not in memory."""

    def __len__(self) -> int:
        return 1

    def fetch(self, index: torch.Tensor) -> torch.Tensor:
        return index
