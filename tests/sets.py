"""Small data sets in their original formats, written by the tests that read them: what each
datamodule with files is built on."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image
from ssl_lightning.datamodules.public import CIFAR10, CIFAR100, STL10

COUNTS = {"train": 60, "test": 20, "unlabeled": 80}


def pixels(split: str, side: int, channels: int) -> NDArray[np.uint8]:
    """Images [N, C, H, W] of a split."""
    return np.random.default_rng(COUNTS[split]).integers(0, 256, (COUNTS[split], channels, side, side), dtype=np.uint8)


def classes(split: str) -> NDArray[np.uint8]:
    return np.random.default_rng(7 + COUNTS[split]).permutation(np.arange(COUNTS[split]) % 10).astype(np.uint8)


def write_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, name in (("train", "train"), ("test", "t10k")):
        header = b"".join(value.to_bytes(4, "big") for value in (0x00000803, COUNTS[split], 28, 28))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels(split, 28, 1).tobytes())
        header = b"".join(value.to_bytes(4, "big") for value in (0x00000801, COUNTS[split]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + classes(split).tobytes())


def write_cifar(folder: Path, files: dict[str, str], label: str, meta: str, key: str) -> None:
    """`files`: name -> split; the images of a split are spread over its files in order."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        names = [name for name, of in files.items() if of == split]
        parts = zip(
            names, np.split(pixels(split, 32, 3), len(names)), np.split(classes(split), len(names)), strict=True
        )
        for name, images, labels in parts:
            (folder / name).write_bytes(pickle.dumps({"data": images.reshape(len(images), -1), label: labels.tolist()}))
    (folder / meta).write_bytes(pickle.dumps({key: [f"class {number}" for number in range(10)]}))


def write_stl10(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in COUNTS:
        columns_first = pixels(split, 96, 3).transpose(0, 1, 3, 2)
        (folder / f"{split}_X.bin").write_bytes(np.ascontiguousarray(columns_first).tobytes())
        if split != "unlabeled":
            (folder / f"{split}_y.bin").write_bytes((classes(split) + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))


def write_public(root: Path) -> Path:
    """All the public sets below one folder."""
    write_mnist(root / "MNIST" / "raw")
    write_mnist(root / "FashionMNIST" / "raw")
    batches = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
    write_cifar(root / "cifar-10-batches-py", batches, "labels", "batches.meta", "label_names")
    write_cifar(
        root / "cifar-100-python", {"train": "train", "test": "test"}, "fine_labels", "meta", "fine_label_names"
    )
    write_stl10(root / "stl10_binary")
    return root


def without_checksums(monkeypatch: Any) -> None:
    """torchvision knows the checksums of the original files alone."""
    for cls in (CIFAR10, CIFAR100, STL10):
        for name in ("train_list", "test_list"):
            monkeypatch.setattr(cls.reader, name, [[file, None] for file, *_ in getattr(cls.reader, name)])
        if hasattr(cls.reader, "meta"):
            monkeypatch.setattr(cls.reader, "meta", {**cls.reader.meta, "md5": None})


def encoded(number: int) -> bytes:
    """A PNG of some size."""
    shape = (20 + number % 7, 24 + number % 5, 3)
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_folder(root: Path) -> Path:
    for number in range(24):
        folder = root / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encoded(number))
    return root


def write_parquet(path: Path) -> Path:
    import datasets

    datasets.Dataset.from_dict({"image": [encoded(number) for number in range(24)], "label": [0, 1, 2] * 8}).to_parquet(
        path
    )
    return path


def write_csv(path: Path) -> Path:
    """Labelled lines of a few words."""
    words, random = (
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
        np.random.default_rng(0),
    )
    lines = [f"{'abc'[number % 3]},{' '.join(random.choice(words, 4 + number % 9))}" for number in range(60)]
    path.write_text("label,text\n" + "\n".join(lines) + "\n")
    return path


def write_sounds(root: Path, names: list[str], rate: int = 8000) -> Path:
    """Sounds of 0.3 to 0.6 s, one a name: a tone whose pitch the name's place gives, with some
    noise."""
    random = np.random.default_rng(0)
    for number, name in enumerate(names):
        time = np.arange(int(rate * (0.3 + 0.3 * random.random()))) / rate
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            path, 0.3 * np.sin(2 * np.pi * (200 + 40 * number) * time) + 0.01 * random.standard_normal(len(time)), rate
        )
    return root


def write_spoken_digits(root: Path) -> Path:
    return write_sounds(
        root, [f"{digit}_{who}_{index}.wav" for digit in range(3) for who in ("ann", "bob") for index in range(9)]
    )


def init_args_of(name: str, root: Path) -> dict[str, Any]:
    """What builds a datamodule on files that are written below `root`; nothing where it needs
    none."""
    if name == "image_folder":
        return {"root": str(write_folder(root / "folder")), "image_size": 32}
    if name == "hf_images":
        return {"path": str(write_parquet(root / "rows.parquet")), "image_size": 32}
    if name == "text_files":
        return {
            "path": str(write_csv(root / "lines.csv")),
            "label_column": "label",
            "row_length": 32,
            "vocab_size": 300,
        }
    if name == "audio_folder":
        return {
            "root": str(write_sounds(root / "sounds", [f"{'abc'[n % 3]}/{n}.wav" for n in range(24)])),
            "sample_rate": 8000,
            "mels": 32,
            "seconds": 0.4,
        }
    if name == "spoken_digits":
        return {"root": str(write_spoken_digits(root / "spoken"))}
    if name in ("digits", "python_docs", "tones"):
        return {}
    return {"root": str(write_public(root)), "download": False, "image_size": 32}
