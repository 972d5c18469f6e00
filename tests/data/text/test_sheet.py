"""Texts as pictures: words in columns, right ones green and wrong ones red, long ones cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from ssl_lightning.data.figure import INK
from ssl_lightning.data.text.sheet import COLUMNS, MOST_LINES, RIGHT, WRONG, _wrapped, plot_texts

SENTENCE = ["the", "cat", "sat", "on", "the", "mat", "and", "looked", "at", "the", "moon"]


def amounts(path: Path) -> dict[str, int]:
    """How many pixels have each of the colours."""
    x = torch.from_numpy(imread(path)[..., :3].copy())
    colours = {
        colour: torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for colour in (INK, RIGHT, WRONG)
    }
    return {name: int(((x - colour).abs().amax(dim=2) < 0.02).sum()) for name, colour in colours.items()}


def test_guesses_are_green_where_they_are_right_and_red_where_they_are_wrong(tmp_path: Path) -> None:
    """And what was hidden is marked; the text itself, and words that nobody touched, are in ink."""
    seen, right, wrong = list(SENTENCE), list(SENTENCE), list(SENTENCE)
    seen[1] = "[MASK]"
    wrong[1] = "dog"
    found = {}
    for name, texts in {
        "plain": {"text": [SENTENCE], "seen": [SENTENCE], "guessed": [SENTENCE]},
        "right": {"text": [SENTENCE], "seen": [seen], "guessed": [right]},
        "wrong": {"text": [SENTENCE], "seen": [seen], "guessed": [wrong]},
    }.items():
        plot_texts(texts, tmp_path / f"{name}.png")
        found[name] = amounts(tmp_path / f"{name}.png")
    assert found["plain"][INK] > 100 and not found["plain"][RIGHT] and not found["plain"][WRONG]
    assert found["right"][RIGHT] > 5 and found["right"][WRONG] > 5, "a right guess, and a hidden word"
    assert found["wrong"][WRONG] > found["right"][WRONG] and not found["wrong"][RIGHT]


def test_without_comparison_nothing_is_coloured(tmp_path: Path) -> None:
    """Two views need not have as many words."""
    plot_texts({"view 1": [SENTENCE], "view 2": [SENTENCE[3:]]}, tmp_path / "views.png", compare=False)
    found = amounts(tmp_path / "views.png")
    assert found[INK] > 100 and not found[RIGHT] and not found[WRONG]


def test_odd_words_and_texts_of_different_number_are_drawn(tmp_path: Path) -> None:
    """Formulas are no formulas, an endless word is cut, and the fewest samples of any caption are
    drawn."""
    odd = ["$x^2", "$", "\\frac{", "%s", "a" * 500, "漢字", "", "\t", "</b>"]
    plot_texts({"text": [odd, []], "guessed": [odd]}, tmp_path / "odd.png")
    assert amounts(tmp_path / "odd.png")[INK] > 100


def test_words_are_wrapped_in_reading_order_and_cut_after_the_last_line() -> None:
    words = [f"word{number:03d}" for number in range(200)]
    placed, lines = _wrapped(words, [INK] * 200, margin=10)
    assert lines == MOST_LINES and placed[-1][2] == "\N{HORIZONTAL ELLIPSIS}" and placed[-1][0] == MOST_LINES - 1
    drawn = placed[:-1]
    assert [word for _, _, word, _ in drawn] == words[: len(drawn)] and len(drawn) == MOST_LINES * (COLUMNS // 8)
    assert [(line, column) for line, column, _, _ in drawn] == sorted((line, column) for line, column, _, _ in drawn)
    assert all(column >= 10 and column + len(word) <= 10 + COLUMNS for _, column, word, _ in drawn)
    assert _wrapped(["one"], [INK], 4) == ([(0, 4, "one", INK)], 1)


@pytest.mark.parametrize("texts", [{}, {"text": []}, {"text": [SENTENCE], "guessed": []}])
def test_nothing_to_draw_is_refused(texts: dict[str, list[list[str]]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There are no texts to draw"):
        plot_texts(texts, tmp_path / "none.png")
