"""The settings by which image files are read: channels, range of values, limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """The rules by which the values of an image file become those of a view.

    Args:
        channels: 1: luma; 3: RGB; any other number: the file must have exactly that many.
        window: the values that become 0 and 1; values beyond them are clamped.
        percentiles: the percentiles of an image's own values that become 0 and 1, such as (0.5,
            99.5); computed over all channels, from about a million evenly spaced pixels of a larger
            image.
        max_pixels: a file whose header declares more is refused.

    Raises:
        ValueError: a value is out of range, or both window and percentiles are given.
    """

    channels: int = 3
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    max_pixels: int = 200_000_000

    @property
    def rescales(self) -> bool:
        """Whether 8-bit values change too, so that views are floats."""
        return bool(self.window or self.percentiles)

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels={self.channels} is too small: it must be at least 1.")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels} is too small: it must be at least 1.")
        if self.window and self.percentiles:
            raise ValueError(f"Both window={self.window} and percentiles={self.percentiles} are set; give one of them.")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"window={self.window} is not increasing: the first value must be below the second.")
        if self.percentiles and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles={self.percentiles} does not fit: give two increasing values from 0 to 100.")
