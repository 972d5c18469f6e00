"""The closing table's protocol: kNN against a plain loop, regression, draws and the printed
table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssl_lightning.data.sources import labelled_draw
from ssl_lightning.evaluation import protocol, regression
from ssl_lightning.evaluation.measures import Outcome
from ssl_lightning.evaluation.protocol import closing_row, knn_predict, linear_accuracy


def blobs(per_class, classes=3, dim=6, spread=0.3, seed=0):
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), per_class)
    centres = 3 * np.eye(classes, dim)
    return (centres[y] + spread * random.normal(size=(len(y), dim))).astype(np.float32), y


def slow_knn(bank, labels, queries, classes, k, temperature):
    """InstDisc, Section 3.4, as a loop; the votes divided by their sum."""
    scores = []
    for query in queries.tolist():
        similarity = []
        for sample, label in zip(bank.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, sample, strict=True))
            similarity.append((dot / (math.hypot(*query) * math.hypot(*sample)), label))
        votes = [0.0] * classes
        for s, label in sorted(similarity, reverse=True)[:k]:
            votes[label] += math.exp(s / temperature)
        scores.append([vote / sum(votes) for vote in votes])
    return torch.tensor(scores)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (5, 1.0), (30, 0.5), (1000, 0.5)])
def test_knn_equals_a_loop_also_for_k_above_the_bank_and_in_chunks(k, temperature, monkeypatch):
    random = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(30, 4, generator=random), torch.randn(11, 4, generator=random)
    labels = torch.randint(4, (30,), generator=random)
    expected = slow_knn(bank, labels, queries, 5, k, temperature)
    assert torch.allclose(knn_predict(bank, labels, queries, 5, k, temperature), expected, atol=1e-5)
    monkeypatch.setattr(protocol, "SIMILARITIES_AT_ONCE", 70)  # two queries at a time
    assert torch.allclose(knn_predict(bank, labels, queries, 5, k, temperature), expected, atol=1e-5)


def test_knn_never_holds_more_similarities_than_its_bound(monkeypatch):
    monkeypatch.setattr(protocol, "SIMILARITIES_AT_ONCE", 100)
    sizes = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda x, *args, **kwargs: (sizes.append(x.numel()), topk(x, *args, **kwargs))[1]
    )
    knn_predict(torch.randn(40, 3), torch.zeros(40), torch.randn(25, 3), 1)
    assert sum(sizes) == 25 * 40 and max(sizes) <= 100


def test_a_small_temperature_lets_the_nearest_outvote_the_many_and_stays_finite():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.5], [0.9, -0.5]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    assert knn_predict(bank, labels, query, 2, k=3, temperature=10.0).argmax() == 1
    assert knn_predict(bank, labels, query, 2, k=3, temperature=0.01).argmax() == 0
    assert torch.equal(knn_predict(bank, labels, query, 2, k=3, temperature=1e-5), torch.tensor([[1.0, 0.0]]))


def test_knn_reads_half_precision():
    x, y = blobs(10)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    assert (knn_predict(x.bfloat16(), y, x.bfloat16(), 3).argmax(1) == y).all()


@pytest.mark.parametrize(("bank", "kwargs"), [(0, {}), (3, {"k": 0}), (3, {"temperature": 0.0})])
def test_knn_refuses_what_has_no_answer(bank, kwargs):
    with pytest.raises(ValueError, match="knn_predict got"):
        knn_predict(torch.randn(bank, 2), torch.zeros(bank), torch.randn(1, 2), 2, **kwargs)


def test_linear_separates_what_is_separable_and_guesses_where_labels_mean_nothing(all_strengths):
    x, y = blobs(40)
    assert linear_accuracy(x[::2], y[::2], x[1::2], y[1::2]) == 1.0
    noise = np.random.default_rng(1).integers(3, size=len(y))
    assert linear_accuracy(x[::2], noise[::2], x[1::2], noise[1::2]) < 0.6


def test_strength_is_chosen_by_held_out_labels_few_informative_features_ask_for_a_strong_penalty(all_strengths):
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    noisy = random.normal(size=(60, 200)).astype(np.float32)
    noisy[:, 0] += 0.5 * y
    x, _ = blobs(30, classes=2)
    chosen = [
        protocol._cross_validated(torch.from_numpy(each), torch.from_numpy(labels))[0]
        for each, labels in ((noisy, y), (x, np.repeat([0, 1], 30)))
    ]
    assert chosen[0] < 0.01 < 1 <= chosen[1]


def test_many_samples_are_held_out_once_and_few_in_folds(monkeypatch, all_strengths):
    fits = []

    def spy(x, y, shares, *rest, **kwargs):
        fits.append((shares > 0).sum(1).tolist())
        return regression.fit(x, y, shares, *rest, **kwargs)

    monkeypatch.setattr(protocol, "fit", spy)
    monkeypatch.setattr(protocol, "HOLD_OUT_SAMPLES", 90)
    x, y = map(torch.from_numpy, blobs(40))
    protocol._cross_validated(x, y)
    assert fits[0] == [96] * 5 * len(protocol.STRENGTHS)
    fits.clear()
    monkeypatch.setattr(protocol, "FOLD_SAMPLES", 60)
    protocol._cross_validated(x, y)
    assert fits[0] == [72] * len(protocol.STRENGTHS)


def test_draws_depend_on_labels_seed_and_draw_alone_and_are_stratified():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 50, 4]))
    first = labelled_draw(labels, 10, seed=0, draw=0)
    assert np.array_equal(first, labelled_draw(labels, 10, seed=0, draw=0))
    assert np.array_equal(np.bincount(labels[first]), [10, 10, 4]) and len(set(first)) == 24
    for other in (labelled_draw(labels, 10, seed=0, draw=1), labelled_draw(labels, 10, seed=1, draw=0)):
        assert not np.array_equal(np.sort(first), np.sort(other))


def test_every_row_gets_the_same_labels(monkeypatch):
    places = []  # the samples that each regression is given, told by their last feature
    fit = protocol.regressed
    monkeypatch.setattr(
        protocol, "regressed", lambda x, y, *rest: (places.append(x[:, -1].argsort().numpy()), fit(x, y, *rest))[1]
    )
    y = np.arange(180) % 3
    order = np.linspace(-1, 1, 180)[:, None]
    rows = []
    for seed, dim in ((0, 4), (1, 40)):
        x = np.concatenate([np.random.default_rng(seed).normal(size=(180, dim)), order], axis=1)
        places.clear()
        closing_row(x, y, x, y)
        rows.append(list(places))
    assert [len(place) for place in rows[0]] == [30] * 5 + [180]
    assert all(np.array_equal(a, b) for a, b in zip(*rows, strict=True))
    assert not np.array_equal(rows[0][0], rows[0][1])


def test_a_row_has_mean_deviation_and_number_of_draws_labels_and_samples(monkeypatch):
    x, y = blobs(30, spread=1.5)
    hits = iter([0.5, 0.6, 0.7, 0.9])
    monkeypatch.setattr(protocol, "regressed", lambda *_: Outcome(torch.arange(90) % 30 < 30 * next(hits) - 1e-6))
    row = closing_row(torch.from_numpy(x), torch.from_numpy(y), x, y, draws=3)
    assert list(row) == ["knn", "knn_10", "linear", "linear_10"]
    assert row["linear"]["mean"] == pytest.approx(0.9) and (row["linear"]["std"], row["linear"]["n"]) == (0.0, 1)
    few = row["linear_10"]
    assert (few["mean"], few["std"], few["n"]) == (pytest.approx(0.6), pytest.approx(0.1), 3)
    assert few["draws"] == pytest.approx([0.5, 0.6, 0.7]) and (few["labels"], few["samples"]) == (30, 90)
    assert row["knn"]["std"] == 0.0 and row["knn_10"]["n"] == 3 and row["knn"]["labels"] == 90


def test_linear_is_blind_to_scale_and_shift_of_a_feature():
    x, y = blobs(30, spread=1.2)
    test, answers = blobs(30, spread=1.2, seed=1)
    scale = np.array([1, 1e-3, 1e3, 1, 10, 1], dtype=np.float32)
    row, scaled = closing_row(x, y, test, answers), closing_row(x * scale + scale, y, test * scale + scale, answers)
    for column in ("linear", "linear_10"):
        assert row[column]["mean"] == pytest.approx(scaled[column]["mean"], abs=0.02)


def test_constant_features_rare_classes_and_classes_unseen_in_training_are_no_trouble(all_strengths):
    x, y = blobs(30)
    x[:, 5] = 0.1
    y = np.where(np.arange(90) == 0, 3, y)  # one sample of class 3
    row = closing_row(x, y, np.concatenate([x, x[:10]]), np.concatenate([y, np.full(10, 7)]))
    assert row["linear"]["mean"] == pytest.approx(
        4 / 5, abs=0.1
    )  # class 7 cannot be known, and the one sample of class 3 weighs much
    assert row["knn_10"]["mean"] <= 0.8
    two = closing_row(x[[1, 40]], [0, 1], x[[2, 41]], [0, 1])
    assert two["linear"]["mean"] == two["knn"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": torch.zeros(9)}, "single class"),
        ({"train_y": torch.arange(9) - 1}, "number the classes from 0"),
        ({"train_y": torch.arange(8)}, "one label for each"),
        ({"test_x": torch.full((9, 2), math.nan)}, "9 of 9 test features hold NaN"),
        ({"test_x": torch.zeros(9, 3)}, "2 dimensions and test features 3"),
        ({"test_x": torch.zeros(0, 2), "test_y": torch.zeros(0)}, "at least one feature"),
        ({"draws": 0}, "draws=0"),
    ],
)
def test_a_row_refuses_what_it_cannot_judge(change, message):
    x, y = torch.randn(9, 2), torch.arange(9) % 3
    with pytest.raises(ValueError, match=message):
        closing_row(**{"train_x": x, "train_y": y, "test_x": x, "test_y": y, **change})


def test_a_label_below_zero_is_told_of_the_split_that_has_it():
    with pytest.raises(ValueError, match="The val labels hold -1"):
        protocol.check_labels(torch.tensor([0, 1]), torch.tensor([0, -1]), "val")
