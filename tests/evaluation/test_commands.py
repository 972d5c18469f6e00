"""`validate`, `test` and `predict`, in Python and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor
from torch.utils.data import DataLoader
from vectors_file import load_vectors

import ssl_lightning
from ssl_lightning.cli.main import main
from ssl_lightning.data.datamodule import Split, SSLDataModule
from ssl_lightning.data.peek import embed
from ssl_lightning.data.sources import InMemory, Source, Subset
from ssl_lightning.evaluation.closing import logged
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.types import View


class Touched(InMemory):
    """Remembers which of its samples were fetched."""

    def __init__(self, samples: Tensor, labels: Tensor | None) -> None:
        super().__init__(samples, labels)
        self.fetched: set[int] = set()

    def fetch(self, index: Tensor) -> Tensor:
        self.fetched |= set(index.tolist())
        return super().fetch(index)


class Watched(TinyImages):
    """Tiny images that say what was read of each split; `splits` says which there are."""

    splits: tuple[Split, ...] = ("train", "val", "test")
    labelled = True

    def __init__(self, *, samples: int = 70, **kwargs: Any) -> None:
        super().__init__(samples=samples, **kwargs)
        self.sources: dict[str, Touched] = {}

    def source(self, split: Split) -> Source | None:
        if split not in self.splits:
            return None
        if split not in self.sources:
            images = super().source(split)
            assert isinstance(images, InMemory)
            self.sources[split] = Touched(images.samples, images.labels if self.labelled else None)
        return self.sources[split]

    @property
    def read(self) -> dict[str, int]:
        """How many samples of each split were fetched."""
        return {split: len(source.fetched) for split, source in self.sources.items() if source.fetched}


class WithoutVal(Watched):
    """Its validation part is withheld from the training samples."""

    splits = ("train", "test")


class Unlabelled(Watched):
    labelled = False


@pytest.fixture
def trainer(tmp_path: Path) -> ssl_lightning.Trainer:
    return ssl_lightning.Trainer(
        accelerator="cpu", precision="32-true", default_root_dir=str(tmp_path), enable_progress_bar=False
    )


@pytest.fixture
def method() -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(TinyEncoder())


def expected(method: SimCLR, data: SSLDataModule, learned: Source, judged: Source) -> dict[str, dict[str, float]]:
    assert learned.labels is not None and judged.labels is not None
    return closing_row(embed(method, data, learned), learned.labels, embed(method, data, judged), judged.labels)


@pytest.mark.parametrize("cls", [Watched, WithoutVal])
def test_validate_learns_from_what_is_not_withheld_and_reads_no_test_sample(
    cls: type[Watched], trainer: Any, method: SimCLR, capsys: Any
) -> None:
    data = cls()
    (returned,) = trainer.validate(method, datamodule=data)
    assert data.read == {"train": 70, "val": 70} if cls is Watched else {"train": 70}
    splits = data.probe_splits()
    assert (
        splits is not None
        and len(splits[0]) == (70 if cls is Watched else 60)
        and len(splits[1]) == (70 if cls is Watched else 10)
    )
    row = expected(method, data, *splits)
    assert returned == pytest.approx(logged({f"val/{column}": cell for column, cell in row.items()}))
    out = capsys.readouterr().out
    assert (
        "split 'val'" in out
        and "untrained encoder" in out
        and f"{100 * row['knn']['mean']:.1f}" in out
        and "10/class" in out
    )


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Watched, WithoutVal])
def test_test_learns_from_all_training_samples_and_reads_no_validation_split(
    cls: type[Watched], trainer: Any, method: SimCLR, capsys: Any
) -> None:
    data = cls()
    (returned,) = trainer.test(method, datamodule=data)
    assert data.read == {"train": 70, "test": 70}
    row = expected(method, data, data.sources["train"], data.sources["test"])
    assert returned == pytest.approx(logged({f"test/{column}": cell for column, cell in row.items()}))
    out = capsys.readouterr().out
    assert "split 'test'" in out and "untrained encoder" in out and f"{100 * row['linear']['mean']:.1f}" in out


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_predict_writes_the_vectors_of_a_split_in_the_order_of_its_samples(
    split: Split, trainer: Any, method: SimCLR, tmp_path: Path, capsys: Any
) -> None:
    data = Watched(predict_split=split, workers=2 if split == "val" else 0)
    trainer.predict(method, datamodule=data)
    (path,) = tmp_path.rglob("*.parquet")
    assert path.name == f"vectors-{split}.parquet" and str(path) in capsys.readouterr().out
    vectors = load_vectors(path)
    source = Watched().source(split)
    assert source is not None
    with torch.no_grad():
        features = method.eval()(
            View(data.transform("none")(source.fetch(torch.arange(70)), torch.zeros(70, dtype=torch.int64)))
        )
    assert torch.equal(vectors["index"], torch.arange(70))
    assert torch.allclose(vectors["features"], features, atol=1e-6)


def test_predict_needs_no_labels(trainer: Any, method: SimCLR, tmp_path: Path) -> None:
    trainer.predict(method, datamodule=Unlabelled())
    (path,) = tmp_path.rglob("*.parquet")
    assert load_vectors(path)["label"] == [None] * 70


@pytest.mark.parametrize("function, split", [("validate", "val"), ("test", "test")])
def test_data_without_labels_cannot_be_judged_and_says_so(
    function: str, split: str, trainer: Any, method: SimCLR
) -> None:
    with pytest.raises(ValueError, match=f"Unlabelled has no labels in its {split} split"):
        getattr(trainer, function)(method, datamodule=Unlabelled(), verbose=False)


def test_a_split_that_is_not_there_is_named(trainer: Any, method: SimCLR) -> None:
    class TrainOnly(Watched):
        splits = ("train",)

    with pytest.raises(ValueError, match="TrainOnly has no test split"):
        trainer.test(method, datamodule=TrainOnly(), verbose=False)


def test_loaders_without_a_datamodule_cannot_be_judged_and_say_so(trainer: Any, method: SimCLR) -> None:
    batch = {
        "views": [View(torch.zeros(4, 1, 16, 16))],
        "index": torch.arange(4),
        "key": torch.arange(4),
        "label": torch.arange(4),
    }
    with pytest.raises(ValueError, match="call validate with a datamodule"):
        trainer.validate(method, DataLoader([batch], batch_size=None), verbose=False)  # type: ignore[arg-type]


def test_evaluation_changes_nothing(trainer: Any, method: SimCLR) -> None:
    before = {name: value.clone() for name, value in method.state_dict().items()}
    for function in (trainer.validate, trainer.test):
        function(method, datamodule=Watched(), verbose=False)
    trainer.predict(method, datamodule=Watched())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items()) and method.training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimCLR, Path]:
    """A short run on digits, as the command line would have made it, and its folder."""
    from ssl_lightning.datamodules.digits import Digits

    torch.manual_seed(0)
    method = SimCLR(TinyEncoder())
    root = tmp_path_factory.mktemp("runs")
    trainer = ssl_lightning.Trainer(
        max_steps=3,
        accelerator="cpu",
        precision="32-true",
        default_root_dir=str(root),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(method, datamodule=Digits())
    assert trainer.run_folder is not None
    return method, trainer.run_folder


def command(name: str, folder: Path, *more: str) -> int:
    """`ssl-lightning <name>` on the run's newest checkpoint."""
    checkpoint = max((folder / "checkpoints").glob("*.ckpt"))
    arguments = [
        name,
        "--model",
        "simclr",
        "--data",
        "digits",
        "--model.encoder",
        "ssl_lightning.testing.TinyEncoder",
        "--ckpt_path",
        str(checkpoint),
    ]
    return main(
        [
            *arguments,
            "--trainer.accelerator",
            "cpu",
            "--trainer.precision",
            "32-true",
            "--trainer.default_root_dir",
            str(folder / "other"),
            *more,
        ]
    )


@pytest.mark.parametrize("name, split", [("validate", "val"), pytest.param("test", "test", marks=pytest.mark.slow)])
def test_the_command_line_prints_the_table_of_a_checkpoint(
    name: str, split: str, trained: tuple[SimCLR, Path], capsys: Any
) -> None:
    from ssl_lightning.datamodules.digits import Digits

    method, folder = trained
    assert command(name, folder) == 0
    data = Digits()
    splits = data.probe_splits()
    assert splits is not None
    train, test = data.split("train"), data.split("test")
    assert train is not None and test is not None and isinstance(splits[1], Subset)
    row = expected(method, data, *((train, test) if name == "test" else splits))
    out = capsys.readouterr().out
    assert (
        "simclr-digits" in out
        and f"split {split!r}" in out
        and "step-00000003.ckpt" in out
        and "pretrained encoder" in out
    )
    assert (
        f"{100 * row['knn']['mean']:.1f}" in out
        and f"{100 * row['linear_10']['mean']:.1f} ± {100 * row['linear_10']['std']:.1f}" in out
    )


def test_the_command_line_writes_the_vectors_of_a_checkpoint_into_its_run_folder(
    trained: tuple[SimCLR, Path], capsys: Any
) -> None:
    from ssl_lightning.datamodules.digits import Digits

    method, folder = trained
    assert command("predict", folder, "--data.predict_split", "test") == 0
    vectors, data = load_vectors(folder / "vectors-test.parquet"), Digits()
    test = data.split("test")
    assert test is not None
    assert torch.equal(vectors["index"], torch.arange(397)) and torch.allclose(
        vectors["features"], embed(method, data, test), atol=1e-6
    )
    assert "397 vectors of 8 values" in capsys.readouterr().out
