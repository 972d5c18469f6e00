"""Segmentation by a linear head: against a loop over pixels and torchmetrics, and on shapes whose
textures tell them apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.segmentation import IGNORED, Segmentation, counted, interpolated, scores_of
from ssl_lightning.evaluation.protocols.token_regression import TokenClassifier, token_classifier
from ssl_lightning.evaluation.protocols.token_store import TokenStore


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(dim: int, classes: int) -> TokenClassifier:
    zero, one = torch.zeros(dim, dtype=torch.float64), torch.ones(dim, dtype=torch.float64)
    return TokenClassifier(zero, one, noise(dim, classes).double(), noise(classes, seed=1).double(), 1.0, "")


def slow_scores(classifier: TokenClassifier, images: list[Any]) -> tuple[float, float]:
    """mIoU and accuracy, pixel by pixel; logits of the grid are brought to the size of the mask."""
    pairs = []
    for tokens, grid, mask in images:
        logits = torch.stack([token.double() @ classifier.weight + classifier.bias for token in tokens])
        whole = F.interpolate(logits.T.reshape(1, -1, *grid), tuple(mask.shape), mode="bilinear", align_corners=False)
        for row in range(mask.shape[0]):
            for column in range(mask.shape[1]):
                if mask[row, column] != IGNORED:
                    pairs.append((int(whole[0, :, row, column].argmax()), int(mask[row, column])))
    ious = []
    for each in {true for _, true in pairs}:
        both = sum(pair == (each, each) for pair in pairs)
        ious.append(both / sum(each in pair for pair in pairs))
    return sum(ious) / len(ious), sum(a == b for a, b in pairs) / len(pairs)


def images(count: int, classes: int) -> list[Any]:
    """Tokens, grids and masks of unequal sizes; the last class is in no mask."""
    made_up = []
    for number in range(count):
        grid, size = (2 + number % 2, 3), (7, 9 + number)
        mask = torch.randint(0, classes - 1, size, generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        mask[number % 7, :3] = IGNORED
        made_up.append((noise(grid[0] * grid[1], 5, seed=number), grid, mask))
    return made_up


def test_scores_are_those_of_a_loop_over_pixels_and_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_jaccard_index

    classifier, shown = linear(5, 4), images(4, 4)
    counts = torch.stack([counted(classifier, *each) for each in shown])
    scores = scores_of(counts)
    miou, accuracy = slow_scores(classifier, shown)
    assert scores["miou"].value == pytest.approx(miou) and scores["accuracy"].value == pytest.approx(accuracy)
    assert len(scores["miou"].resampled) == 1_000 and min(scores["miou"].resampled) < miou < max(
        scores["miou"].resampled
    )
    # torchmetrics counts a class that is predicted and in no mask as 0: here none is predicted.
    few = classifier._replace(bias=classifier.bias - torch.tensor([0, 0, 0, 1e6]))
    counts = torch.stack([counted(few, *each) for each in shown])
    predicted, true = [], []
    for tokens, grid, mask in shown:
        whole = F.interpolate(few.logits(tokens).T.reshape(1, -1, *grid), tuple(mask.shape), mode="bilinear")
        predicted.append(whole[0].argmax(0).flatten())
        true.append(mask.flatten().long())
    expected = multiclass_jaccard_index(torch.cat(predicted), torch.cat(true), 4, ignore_index=IGNORED, average=None)
    assert scores_of(counts)["miou"].value == pytest.approx(float(expected[:3].mean()), rel=1e-5)


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (24, 20)), ((2, 2), (5, 7)), ((6, 5), (6, 5)), ((1, 1), (4, 3))])
def test_tokens_at_pixels_are_those_of_the_whole_interpolated_grid(grid: Any, size: Any) -> None:
    tokens = noise(grid[0] * grid[1], 6)
    whole = F.interpolate(tokens.T.reshape(1, 6, *grid), size, mode="bilinear", align_corners=False)[0].flatten(1).T
    assert_close(interpolated(tokens, grid, size, torch.arange(size[0] * size[1])), whole)


def textured(count: int, seed: int) -> Samples:
    """Discs (class 1) and bars (class 2) on ground (0): a token is its patch's texture, blurred by
    what of the patch each covers; one pixel of each mask is ignored."""
    textures = torch.linalg.qr(noise(8, 8, seed=70))[0][:3] * 3
    tokens, masks = [], []
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for number in range(count):
        a, b, c = torch.rand(3, generator=torch.Generator().manual_seed(1_000 * seed + number)).tolist()
        mask = torch.zeros(32, 32, dtype=torch.uint8)
        mask[(row - 8 - 12 * a).square() + (column - 8 - 12 * b).square() < 49] = 1
        mask[(column - 4 - 24 * c).abs() < 3] = 2
        share = F.one_hot(mask.long(), 3).float().permute(2, 0, 1)[None]
        mixed = F.avg_pool2d(share, 4)[0].flatten(1).T @ textures  # [64, 8]
        tokens.append(mixed + 0.3 * noise(64, 8, seed=10_000 * seed + number))
        mask[0, 0] = IGNORED
        masks.append(mask)
    grids = [(8, 8)] * count
    return Samples(TokenStore.of_samples(tokens, grids=grids), masks, ("ground", "disc", "bar"))


def test_it_finds_shapes_by_their_texture_and_nothing_in_noise() -> None:
    train, test = textured(30, 1), textured(20, 2)
    probe = Segmentation(pixels=3_000)
    judgement = probe.judge(train, test)
    assert judgement.scores["miou"].value > 0.75 and "of the 30 samples" in judgement.remarks[0]
    assert probe.judge(train, test) == judgement
    blind = [noise(64, 8, seed=number) for number in range(50)]
    lost = [part._replace(x=TokenStore.of_samples(each, grids=[(8, 8)] * len(each)))
            for part, each in ((train, blind[:30]), (test, blind[30:]))]  # fmt: skip
    assert probe.judge(*lost).scores["miou"].value < 0.35


def test_the_judged_masks_have_no_part_in_what_is_learned() -> None:
    train, test = textured(20, 1), textured(4, 2)
    wrong = test._replace(target=[(mask + 1) % 3 for mask in test.target])
    probe = Segmentation(pixels=1_000)
    assert probe.judge(train, wrong).remarks == probe.judge(train, test).remarks
    assert probe.judge(train, wrong).scores["miou"].value < 0.3


def test_classes_that_are_not_learned_are_named_and_ignored_pixels_count_nowhere() -> None:
    train, test = textured(12, 1), textured(4, 2)
    for mask in train.target:
        mask[mask == 2] = IGNORED
    judgement = Segmentation(pixels=500).judge(train, test)
    assert judgement.remarks[-1].endswith("whose IoU is 0: bar.") and judgement.scores["miou"].value < 0.7
    for mask in test.target:
        mask[:] = IGNORED
    with pytest.raises(ValueError, match="All pixels of the 4 judged masks are 255"):
        Segmentation().judge(train, test)


def test_the_regression_is_scikit_learns_and_its_strength_that_of_held_out_samples() -> None:
    from sklearn.linear_model import LogisticRegression

    x, sample = noise(400, 6) * torch.arange(1.0, 7) + 3, torch.arange(400) // 10
    y = (x[:, 0] - 3 + 0.5 * noise(400, seed=1) > 0).long() + 2 * (x[:, 1] > 4).long()
    shares = 1 + (torch.arange(400) % 3).float()
    classifier = token_classifier(x, y, sample, 5, shares)
    z = ((x.double() - classifier.mean) / classifier.scale).numpy()
    model = LogisticRegression(C=classifier.strength, tol=1e-10, max_iter=10_000).fit(z, y, shares.numpy())
    expected = torch.from_numpy(model.predict_proba(z))
    assert_close(classifier.logits(x)[:, :4].softmax(1), expected, atol=5e-3, rtol=0)
    assert classifier.bias[4] == -math.inf and classifier.logits(x).argmax(1).max() < 4
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:8]
    out = torch.isin(sample, drawn)
    likelihood = {}
    for strength in (classifier.strength / 10, classifier.strength, classifier.strength * 10):
        fitted = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(z[~out], y[~out], shares[~out].numpy())
        p = fitted.predict_proba(z[out])[range(int(out.sum())), y[out].numpy()]
        likelihood[strength] = float((torch.from_numpy(p).log() * shares[out]).sum() / shares[out].sum())
    best = max(likelihood, key=likelihood.__getitem__)
    assert likelihood[best] - likelihood[classifier.strength] < 1e-3


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.full((20, 3), math.nan), "NaN or infinity"), (None, "tokens of 1 samples and 2 classes")],
)
def test_what_cannot_be_learned_from_is_one_line(x: Any, message: str) -> None:
    sample = torch.zeros(20, dtype=torch.int64) if x is None else torch.arange(20)
    with pytest.raises(ValueError, match=message) as refusal:
        token_classifier(noise(20, 3) if x is None else x, torch.arange(20) % 2, sample, 2)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="pixels=0 is too small"):
        Segmentation(pixels=0)
    for grids in ([], [(4,)]):
        store = TokenStore.of_samples([noise(4, 3)], grids=grids)
        with pytest.raises(ValueError, match="no grid of rows and columns"):
            Segmentation().drawn(store, [torch.zeros(4, 4)], 0)
