"""What a datamodule answers for its modality, so that nobody else has to know it: the encoders that
suit, pictures of views, how an encoder is loaded and what it cannot be used without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ..types import View
from .figure import plot_views, small

if TYPE_CHECKING:
    from .given import Given
    from .preparation import Preparation
    from .sources import Source
    from .tagged import Tagged

EMPTY, OFTEN = 0.02, 0.25
"""Standard deviation of a picture in [0, 1] below which there is next to nothing to see, and the
share of the views from which on that is said."""


def loading_lines(folder: Path, dim: int, x: str = "x") -> str:
    """Returns Python lines that load the encoder of a run and apply it to a tensor called `x`."""
    return (
        f'from ssl_lightning import View, load_encoder\nencoder = load_encoder("{folder}")\n'
        f"features = encoder(View({x}))  # [S, {dim}]"
    )


class Modality:
    """The answers of data whose views are images, or values without a picture."""

    empty_remedy: ClassVar[str] = ""
    """What to do where there is nothing to see in the views, as a sentence behind a space."""
    takes_files: ClassVar[str] = ""
    """The argument that any file, folder or list of files of this modality may be given to; empty:
    there is none."""
    example_items: ClassVar[str] = ""
    """Two items that `of_items` reads, as Python, for the lines that load an encoder."""
    default_encoders: ClassVar[dict[str, dict[str, Any]]] = {}
    """The config that suits this data, for each kind of encoder (`Encoder`, `TokenEncoder`)."""

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns the default encoders for data built with these arguments, defaults included."""
        return cls.default_encoders

    def meet(self, method: Any) -> None:
        """Refuses, before a run, an encoder that cannot read these views, and tells the method what
        it needs to know about the data. Most data sets have nothing to say."""

    def show(self, captions: Mapping[str, View], path: Path, compare: bool = False) -> dict[str, Path]:
        """Draws views, or a method's versions of them, to look at or to listen to. By default it
        draws those that are images.

        Args:
            captions: views of the same S samples, on the CPU.
            path: the PNG to write; other files are written beside it.
            compare: whether later captions are the method's versions of the first.

        Returns:
            The files written, by name, for loggers: pictures (`.png`), sounds (`.wav`), and tables
            of texts (`.csv`).
        """
        return plot_views(captions, path, self.as_pictures)

    def as_pictures(self, x: Tensor) -> Tensor:
        """Returns views [S, C, H, W] as images to look at, in [0, 1]; an image that exceeds this
        range is rescaled when it is drawn."""
        return x

    def thumbnails(self, view: View) -> Tensor | None:
        """Returns a small picture [S, C, h, w] in [0, 1] of each sample of a view, for maps and
        contact sheets; None where there is none, and samples are shown by their words or names."""
        return small(self.as_pictures(view.x.float())) if view.x.ndim == 4 else None

    def advice(self, views: Sequence[View]) -> list[str]:
        """Returns a sentence for each thing that a user should look at in the views of a batch, on
        the CPU; by default for views in which there is next to nothing to see."""
        pictures = [each for each in map(self.thumbnails, views) if each is not None]
        empty = [bool(each) for x in pictures for each in x.flatten(1).std(dim=1) < EMPTY]
        if sum(empty) < OFTEN * len(empty) or not empty:
            return []
        return [f"{sum(empty)} of {len(empty)} views show next to nothing, nearly a single value.{self.empty_remedy}"]

    def in_words(self, view: View) -> list[str]:
        """Returns a line for each of some samples of a view, to read in a terminal; none where
        words do not serve."""
        return []

    def how_to_load(self, folder: Path, dim: int) -> str:
        """Returns Python lines that load the encoder of a run and apply it to such data.

        Args:
            folder: the run folder.
            dim: length of a feature vector.
        """
        if self.reads_items() is None:
            return loading_lines(folder, dim)
        return (
            f'from ssl_lightning import Reader\nread = Reader("{folder}")\n'
            f"features = read({self.example_items})  # [2, {dim}]"
        )

    def preparation(self) -> Preparation | None:
        """Returns how one item becomes a view of the test transform, told for other libraries;
        None: only this data does that."""
        return None

    @property
    def place(self) -> str:
        """Returns the file or folder that a user's samples are read from, as it was given; empty
        for a data set that is always the same."""
        files = getattr(self, "init_args", {}).get(self.takes_files) if self.takes_files else None
        return str(files) if isinstance(files, (str, Path)) else ""

    def artifacts(self) -> dict[str, str]:
        """Returns the text files, by name, that a run's encoder cannot be used without, such as a
        tokenizer. They are written into the run folder and into its checkpoints."""
        return {}

    @classmethod
    def of_items(cls) -> type[Given]:
        """Returns the datamodule of such data that reads single items: files, or what they hold.
        It is built with the arguments of its `arguments_of`."""
        raise NotImplementedError(f"{cls.__name__} does not define `of_items`, so it reads no single items.")

    @classmethod
    def reads_items(cls) -> type | None:
        """Returns the class that defines `of_items` for this one; None: there is none."""
        found = next(each for each in cls.__mro__ if "of_items" in vars(each))
        return None if found is Modality else found

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        """Returns the constructor's arguments that make views as a run did.

        Args:
            artifacts: of the run.
            path: the run folder, checkpoint or encoder file that they come from.
        """
        return {}

    # What single tokens of an encoder stand for.

    def masks_of(self, source: Source, index: Tensor, folder: Path) -> Sequence[Tensor]:
        """Returns the masks of samples under the test transform, [H, W] uint8 each: the class of
        each pixel of a view, 255 for those that do not count.

        Args:
            source: the samples, none of another.
            index: [M] which of them.
            folder: with a file for each sample, under its name.

        Raises:
            ValueError: such data has no masks, or some are missing or do not fit.
        """
        raise ValueError(f"{type(self).__name__} has no masks: its samples have no pixels.")

    def tagged(self, train: Path, judged: Path, most: tuple[int, int]) -> tuple[Tagged, Tagged]:
        """Reads sentences whose words have tags, to learn from and to judge on, at most so many of
        each.

        Raises:
            ValueError: such data has no words, or a line is not as it should be.
        """
        raise ValueError(f"{type(self).__name__} has no tags: its samples have no words.")

    def token_seconds(self, step: int, source: Source, index: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Returns the seconds at the middle of each token of each sample [n], on the time of what
        the sample, or window, was cut from, and NaN for padding; none for data without a time.

        Args:
            step: positions of the view's last axis from a token to the next.
            source: the samples, or windows.
            index: [M] which of them.
            counts: [M] the number of tokens of each.
        """
        return []

    def difference(self, artifacts: Mapping[str, str]) -> str:
        """Says in one or two sentences how this data's views differ from those of the run whose
        encoder is reused, and what to do; empty if the encoder may be used.

        Args:
            artifacts: of the run.
        """
        current = self.artifacts()
        differing = [name for name, text in artifacts.items() if current.get(name, text) != text]
        return f"The data's {differing[0]} differs from that of the encoder's run. Use the run's." if differing else ""
