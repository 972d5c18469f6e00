"""Masks are cut as their images are, and what does not fit is one line before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder

from ssl_lightning.data.peek import peek

SIZES = [(40, 24), (24, 40), (32, 32), (17, 50)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of black and white blocks, with masks that say which; of unequal sizes."""
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES * 2):
        blocks = random.integers(0, 2, (height // 8 + 1, width // 8 + 1))
        levels = np.kron(blocks, np.ones((8, 8)))[:height, :width].astype(np.uint8)
        name = f"{'train' if number < 4 else 'test'}/{'ab'[number % 2]}/{number}"
        for folder, suffix, values in (("photos", "png", 255 * levels), ("masks", "png", levels)):
            path = tmp_path / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return tmp_path


def masks(root: Path, size: int = 16, folder: str = "masks", **kwargs: Any) -> Any:
    data = ImageFolder(str(root / "photos"), image_size=size, channels=1, **kwargs)
    source = data.split("train")
    assert source is not None
    return data, source, data.masks_of(source, torch.arange(len(source)), root / folder)


@pytest.mark.parametrize("size", [8, 16, 17])
def test_a_mask_shows_the_part_of_its_image_that_a_view_does(photos: Path, size: int) -> None:
    """Where the image is black or white around a pixel, the mask says so; of every pixel, where a
    view is as large as the square that it shows."""
    data, source, cut = masks(photos, size)
    views = data.as_pictures(peek(data, source, torch.arange(4), "cpu")["views"][0].x)[:, 0]
    assert len(cut) == 4 and all(mask.shape == (size, size) and mask.dtype == torch.uint8 for mask in cut)
    for mask, view in zip(cut, views, strict=True):
        whole = (view - view.round()).abs() < 0.02  # no edge of a block is near
        assert whole.float().mean() > 0.15 and torch.equal(mask[whole].float(), view[whole].round())
    if size == 17:  # the last image is 17 pixels high
        number = next(each for each in range(4) if source.name(each).endswith("3.png"))
        assert torch.allclose(cut[number].float(), views[number], atol=1e-6)


def test_indices_of_a_palette_are_class_ids(photos: Path) -> None:
    path = photos / "masks" / "train" / "a" / "0.png"
    before = masks(photos)[2]
    image = Image.open(path).convert("P")
    image.putdata(list(Image.open(path).getdata()))
    image.putpalette([value for each in range(256) for value in (255 - each, each, 0)])
    image.save(path)
    assert Image.open(path).mode == "P"
    assert all(torch.equal(a, b) for a, b in zip(masks(photos)[2], before, strict=True))


def test_what_does_not_fit_is_one_line(photos: Path) -> None:
    def refused(message: str, read: bool = False, folder: str = "masks") -> None:
        with pytest.raises(ValueError, match=message) as refusal:
            cut = masks(photos, folder=folder)[2]
            if read:
                list(cut)
        assert "\n" not in str(refusal.value)

    refused("nowhere is no folder", folder="nowhere")
    path = photos / "masks" / "train" / "a" / "0.png"
    good = Image.open(path).copy()
    good.convert("RGB").save(path)
    refused(r"0.png has colours \(mode RGB\); write class ids")
    good.resize((10, 10)).save(path)
    refused("0.png has 10 x 10 pixels, its image 24 x 40")
    path.write_bytes(b"no picture")
    refused("0.png cannot be read")
    Image.fromarray(np.full((40, 24), 300, dtype=np.uint16)).save(path)
    refused("0.png holds 300; write class ids of 0 to 255", read=True)
    good.save(path)
    content = path.read_bytes()
    path.write_bytes(content[:60])
    refused("0.png cannot be read", read=True)
    path.unlink()
    (photos / "masks" / "train" / "b" / "1.png").unlink()
    refused(r"lacks 2 of 4 masks: train/a/0.png, train/b/1.png; give one for each image")


def test_images_in_memory_have_masks_by_their_names(tmp_path: Path) -> None:
    data = Digits()
    source = data.split("test")
    assert source is not None
    for number in range(3):
        mask = np.full(source.fetch(torch.tensor([number])).shape[-2:], number, dtype=np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{source.name(number)}.png")
    cut = data.masks_of(source, torch.arange(3), tmp_path)
    assert [mask.unique().tolist() for mask in cut] == [[0], [1], [2]]
