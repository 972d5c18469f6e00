"""Segmentation by a linear head on the tokens of a grid, such as an image's patches.

Notation for shapes: Q judged images, K classes, D features, h x w the grid, H x W a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Judgement, Needs, Protocol, Samples, Score, score
from .token_regression import TokenClassifier, token_classifier
from .token_store import TokenStore

IGNORED = 255
"""The class of pixels that count nowhere."""


@dataclass(frozen=True, kw_only=True)
class Segmentation(Protocol):
    """A linear classifier gives each patch logits, which are brought to the size of the mask by
    bilinear interpolation; cross entropy with the pixels, without BatchNorm. Tokens are
    standardised.

    Interpolation and the head are linear, so the loss of a pixel is that of the interpolated token:
    the head is fitted to convergence on pixels drawn evenly from all images to learn from, with the
    penalty that is best on a fifth of these images. Scores are of all pixels.

    Args:
        pixels: that the head learns from, in all images together.

    Raises:
        ValueError: pixels is not positive.
    """

    name: ClassVar[str] = "segmentation"
    needs: ClassVar[Needs] = Needs("tokens", "masks")
    source: ClassVar[str] = "Oquab et al. 2023 (2304.07193), Section 7.4, linear; there with BatchNorm and by AdamW"
    pixels: int = 50_000

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise ValueError(f"pixels={self.pixels} is too small; give 1 or more.")

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "ignored": IGNORED, "upsampling": "bilinear"}

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        x, y, image = self.drawn(train.x, train.target, seed)
        present = {int(each) for mask in test.target for each in mask.unique() if each != IGNORED}
        if not present:
            raise ValueError(f"All pixels of the {len(test.target):,} judged masks are {IGNORED}, which is ignored.")
        classifier = token_classifier(x, y, image, max(int(y.max()), *present) + 1, seed=seed)
        counts = torch.stack(
            [counted(classifier, *each) for each in zip(test.x, test.x.grids, test.target, strict=True)]
        )
        remarks = [*train.x.remarks, classifier.remark]
        if missing := sorted(present - set(y.unique().tolist())):
            shown = ", ".join(test.names[each] if each < len(test.names) else str(each) for each in missing)
            remarks.append(f"Classes that no drawn pixel to learn from has, and whose IoU is 0: {shown}.")
        return Judgement(scores_of(counts), tuple(remarks))

    def drawn(self, tokens: TokenStore, masks: Sequence[Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Interpolated tokens [m, D] of pixels, their classes [m], and the numbers of their images
        [m]: equally many of each image, as far as it has them."""
        if [len(grid) for grid in tokens.grids] != [2] * len(tokens):
            raise ValueError("The tokens have no grid of rows and columns, which masks need.")
        each = max(1, self.pixels // len(tokens))
        generator = torch.Generator().manual_seed(seed)
        x, y, image = [], [], []
        for number, (token, grid, mask) in enumerate(zip(tokens, tokens.grids, masks, strict=True)):
            real = (mask.flatten() != IGNORED).nonzero()[:, 0]
            chosen = real[torch.randperm(len(real), generator=generator)[:each]]
            x.append(interpolated(token, grid, tuple(mask.shape), chosen))
            y.append(mask.flatten()[chosen].long())
            image.append(torch.full_like(chosen, number))
        return torch.cat(x), torch.cat(y), torch.cat(image)


def interpolated(tokens: Tensor, grid: Sequence[int], size: Sequence[int], pixels: Tensor) -> Tensor:
    """The tokens [m, D] at some pixels, as `F.interpolate(mode="bilinear")` of the whole grid has
    them.

    Args:
        tokens: [h w, D], row by row.
        grid: (h, w).
        size: (H, W).
        pixels: [m] positions in the flattened mask.
    """
    at = []
    for position, count, whole in zip((pixels // size[1], pixels % size[1]), grid, size, strict=True):
        place = ((position + 0.5) * (count / whole) - 0.5).clamp(min=0)
        first = place.long().clamp(max=count - 1)
        at.append((first, (first + 1).clamp(max=count - 1), (place - first)[:, None].to(tokens)))
    (top, bottom, down), (left, right, across) = at
    upper, lower = ((tokens[row * grid[1] + left] * (1 - across) + tokens[row * grid[1] + right] * across)
                    for row in (top, bottom))  # fmt: skip
    return upper * (1 - down) + lower * down


def counted(classifier: TokenClassifier, tokens: Tensor, grid: Sequence[int], mask: Tensor) -> Tensor:
    """Pixels of an image by class, [3, K]: predicted rightly, predicted, and in the mask.

    Args:
        classifier: of tokens.
        tokens: [h w, D].
        grid: (h, w).
        mask: [H, W] classes, `IGNORED` for pixels that do not count.
    """
    logits = classifier.logits(tokens)
    logits = logits.nan_to_num(neginf=torch.finfo(torch.float32).min / 4)  # of classes that were not learned
    whole = logits.T.reshape(1, -1, *grid).float()
    predicted = F.interpolate(whole, tuple(mask.shape), mode="bilinear")[0].argmax(dim=0)
    real, count = mask != IGNORED, logits.shape[1]
    right = (predicted == mask) & real
    return torch.stack([each.long().bincount(minlength=count)
                        for each in (predicted[right], predicted[real], mask[real])])  # fmt: skip


def scores_of(counts: Tensor) -> dict[str, Score]:
    """The mean over classes of intersection over union, of all images together, and the share of
    pixels that are classified rightly. Classes that no judged mask has do not count.

    Args:
        counts: [Q, 3, K] of `counted`.
    """
    right, predicted, true = counts.double().unbind(1)  # [Q, K]

    def miou(weights: Tensor) -> Tensor:
        inside = weights @ right
        union, there = weights @ (predicted + true) - inside, (weights @ true) > 0
        return torch.where(there, inside / union.clamp(min=1), 0).sum(1) / there.sum(1)

    def accuracy(weights: Tensor) -> Tensor:
        return (weights @ right.sum(1)) / (weights @ true.sum(1))

    return {"miou": score([miou], len(counts)), "accuracy": score([accuracy], len(counts))}
