"""The base class of datamodules for sound: windows of recordings, as log-mels or as waves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ...augment.recipe import changed
from ...augment.sound import SoundPolicy
from ...augment.window import Waves
from ...plugins.arguments import require
from ...types import Strength, View
from ..datamodule import Describes
from ..files.source import Unreadable, check_unreadable
from ..given import Given
from ..ledger import Tally
from ..preparation import Preparation
from ..sources import Source
from .lengths import lengths_of
from .listen import Listening
from .preparation import preparation_of
from .settings import SOUND, arguments_in, check_settings, difference, log_mel, samples_of
from .source import recordings_of
from .statistics import Statistics, pooled, statistics_of
from .suited import suited_encoders
from .token_times import token_times
from .varying import VaryingLengths, check_varying

LONGEST = 10.0
"""Seconds of a recording that statistics are computed from, where recordings are used whole."""


class SoundDataModule(VaryingLengths, Listening):
    """A data set of recordings of any length and rate: an author defines `source`, which returns a
    `SoundSource`.

    A view is a window of a recording: anywhere in it, or in its middle for the test transform; a
    shorter recording is padded behind. Probes, the closing table and `predict` take of a longer one
    the mean over windows that cover it. Or a view is the whole recording, padded to about the
    longest of its batch, for encoders that heed where the padding is. Log-mels are normalised by
    mean and standard deviation of the data, computed once from up to 512 recordings to pretrain on
    and kept in `$SSL_LIGHTNING_CACHE` (on Linux by default `~/.cache/ssl_lightning`); some of these
    are what the strong augmentation mixes in.

    Args:
        sample_rate: in Hz, to which every recording is resampled.
        seconds: the length of a window; None: recordings are used whole.
        batch_seconds: about this many seconds per batch, over all processes, padding included, in
            place of `batch_size`: batches then consist of recordings of similar length, and
            `seconds` is the most that is used of a recording.
        features: `log_mel`: images [S, 1, bands, frames]; `wave`: samples [S, T], with padding
            marked.
        normalise: whether each wave is normalised to mean 0 and variance 1, after its augmentation,
            as in wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477, Section 2). Log-mels are
            always normalised, by the data's statistics.
        mels: the number of bands.
        window: the length of a spectrum's window, in seconds.
        hop: from one spectrum to the next, in seconds.
        spectrogram: `plain`, or `kaldi`: with pre-emphasis, Povey's window, and triangles over the
            mel scale.
        statistics: the mean and standard deviation by which log-mels are normalised, such as those
            of a pretrained encoder, which are in `sound.json` of its run; None: computed from the
            data.
        augmentation: changes to the data set's recipe, by the names of the fields of `SoundPolicy`.
        unreadable: `raise` stops at a recording that cannot be read; `skip` replaces it by another
            one, always the same.
        max_unreadable: the fraction of the recordings that may be skipped; more stop the run.
    """

    example_items = '["a.wav", "b.flac"]'
    policy: ClassVar[SoundPolicy] = SoundPolicy()
    """The recipe of augmentation."""

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        seconds: float | None = 1.0,
        batch_seconds: float | None = None,
        features: Literal["log_mel", "wave"] = "log_mel",
        normalise: bool = True,
        mels: int = 64,
        window: float = 0.025,
        hop: float = 0.01,
        spectrogram: Literal["plain", "kaldi"] = "plain",
        statistics: tuple[float, float] | None = None,
        augmentation: dict[str, Any] | None = None,
        unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.cache == "device":
            raise ValueError(
                "cache=device needs samples of one size; recordings are cut before they go to the device. Leave it out."
            )
        check_settings(features, spectrogram, statistics)
        check_unreadable(unreadable, max_unreadable, "recordings")
        require(self, at_least=1, sample_rate=sample_rate)
        self.sample_rate, self.features, self.given_statistics = sample_rate, features, statistics
        self.unreadable, self.max_unreadable = unreadable, max_unreadable
        self.hop = hop
        self.of_log_mels = {"mels": mels, "window": window, "hop": hop, "spectrogram": spectrogram}
        self.mel = log_mel(sample_rate, mels, window, hop, spectrogram)
        self.seconds = seconds
        self.samples = None if seconds is None else samples_of(sample_rate, seconds)
        if self.samples is not None and self.mel.frames(self.samples) < 1:
            raise ValueError(f"seconds={seconds} is shorter than hop={hop}; increase it.")
        require(self, above=0, batch_seconds=batch_seconds)
        self.batch_seconds, self.normalise = batch_seconds, normalise
        self.recipe = changed(self.policy, augmentation or {})
        self.resolve("augmentation", asdict(self.recipe))
        try:
            self.recipe.build("strong", self.samples, self.mel)
        except ValueError as error:
            raise ValueError(f"augmentation={augmentation} does not fit: {error}") from error

    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return suited_encoders(init_args, cls.default_encoders)

    def prepare_data(self) -> None:
        """Computes statistics and lengths, which every process then reads from the cache."""
        super().prepare_data()
        if self.features == "log_mel":
            self.statistics  # noqa: B018
        if self.batch_seconds is not None:
            lengths_of(self.training_split)
        for split in (self.labelled_split, self.split("val"), self.split("test")):
            if split is not None:
                with suppress(Unreadable):  # all such files are named at once, before the run
                    split.windows()

    def opened(self, source: Source) -> Source:
        recordings_of(source).view = self.samples
        return source

    def tally(self, split: str, source: Source, use: str) -> Tally:
        tally, lengths = super().tally(split, source, use), recordings_of(source).lengths
        if lengths is None or not self.rows_alike or self.samples is None or not bool((lengths < self.samples).any()):
            return tally
        short = lengths[lengths < self.samples]
        padding = 1 - float(short.double().mean()) / self.samples
        remark = f"{len(short):,} shorter than a view, {padding:.0%} of which is padding"
        return replace(tally, remarks=(*tally.remarks, remark))

    @cached_property
    def statistics(self) -> Statistics:
        """The statistics of the log-mels to pretrain on, whichever of their labels are used."""
        source = self.pretraining_source() or self.split("train")
        if source is None:
            raise ValueError(f"{type(self).__name__} has no training split.")
        computed = statistics_of(source, self.mel, self.samples or samples_of(self.sample_rate, LONGEST))
        return computed if self.given_statistics is None else Statistics(*self.given_statistics, computed.bank)

    def serve(self, method: Describes) -> None:
        """Builds the transforms for the views that a method asks for; probe sets of sound are
        normalised as this set is, since one encoder reads both.

        Raises:
            ValueError: this data does not have such views, has fewer samples than a batch, or has a
                probe set with views of another size, or the encoder would take padding for sound.
        """
        if self.varies:
            check_varying(method, self.features, self.batch_seconds)
        super().serve(method)
        for name, data in self.probe_sets.items():
            if not isinstance(data, SoundDataModule):
                continue
            if data._shape != self._shape:
                raise ValueError(
                    f"probe_sets.{name} has views of (features, sample_rate, bands, frames) {data._shape},"
                    f" {type(self).__name__} of {self._shape}, but one encoder reads both. Give both the same."
                )
            if self.features == "log_mel" and data.given_statistics is None:
                data.statistics = data.statistics._replace(
                    mean=self.statistics.mean, deviation=self.statistics.deviation
                )

    @property
    def rows_alike(self) -> bool:
        """False where recordings are used whole, and for waves, where shorter ones are padded."""
        return self.features == "log_mel" and not self.varies

    @property
    def _shape(self) -> tuple[str, int, int, int | None]:
        return (
            self.features,
            self.sample_rate,
            self.mel.mels,
            None if self.samples is None else self.mel.frames(self.samples),
        )

    def transform(self, strength: Strength, local_size: int | None = None) -> nn.Module:
        if self.features == "wave":
            return self.recipe.build(strength, self.samples, step=self._step, normalise=self.normalise)
        mean, deviation, bank = self.statistics
        return self.recipe.build(strength, self.samples, self.mel, (mean, deviation), bank, step=self._step)

    def raw_features(self, raw: Waves) -> Tensor:
        """Computes the mean and standard deviation over time of each band's log-mels, without
        padding: [S, 2 M]."""
        return pooled(self.mel.to(raw.x.device), raw)

    def raw_of_view(self, view: View) -> Tensor:
        """Computes the mean and standard deviation over time of each band's log-mels [S, 2 M],
        without frames of zeros alone, which are padding."""
        x = view.x.float()
        log_mels = self.mel.to(x.device)(x) if x.ndim == 2 else x[:, 0]  # [S, M, F]
        real = (log_mels != 0).any(dim=1, keepdim=True)
        count = real.sum(dim=2).clamp(min=1)
        mean = log_mels.sum(dim=2) / count
        variance = ((log_mels - mean[:, :, None]).square() * real).sum(dim=2) / count
        return torch.cat([mean, variance.sqrt()], dim=1)

    def token_seconds(self, step: int, source: Source, index: Tensor, counts: Sequence[int]) -> list[Tensor]:
        hop = 1 if self.features == "wave" else samples_of(self.sample_rate, self.hop)
        return token_times(source, index, counts, self.sample_rate, step * hop)

    def artifacts(self) -> dict[str, str]:
        """Returns the arguments by which views are made, which `Reader` and a second training
        step on other recordings need."""
        given = {
            "varies": self.varies,
            "features": self.features,
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
        }
        if self.features == "wave":
            return {SOUND: json.dumps({**given, "normalise": self.normalise})}
        return {SOUND: json.dumps({**given, **self.of_log_mels, "statistics": self.normalisation})}

    def preparation(self) -> Preparation:
        return preparation_of(self)

    @classmethod
    def of_items(cls) -> type[Given]:
        from .given import GivenSounds  # here: it is built of this class

        return GivenSounds

    @classmethod
    def arguments_of(cls, artifacts: Mapping[str, str], path: str) -> dict[str, Any]:
        return arguments_in(artifacts[SOUND]) if SOUND in artifacts else {}

    def difference(self, artifacts: Mapping[str, str]) -> str:
        differs = difference(self.artifacts()[SOUND], artifacts[SOUND]) if SOUND in artifacts else ""
        if not differs:
            return ""
        return (
            f"The data has {differs} as in the encoder's run, so the same values would mean something else."
            " Give the run's values, or leave these arguments of --data out."
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position.

        Raises:
            ValueError: the run had other samples, or normalised log-mels by other values.
        """
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        trained = state_dict.get("statistics")
        if fitting and trained is not None and self.features == "log_mel" and trained != self.normalisation:
            raise ValueError(
                f"The checkpoint was trained on log-mels with mean and standard deviation {trained}, this data has"
                f" {self.normalisation}: recordings have changed. To resume regardless, give those of the run:"
                f" --data.statistics '{trained}'."
            )
        super().load_state_dict(state_dict)

    def order(self) -> dict[str, Any]:
        statistics = {"statistics": self.normalisation} if self.features == "log_mel" else {}
        return {**super().order(), **statistics, "batch_seconds": self.batch_seconds}

    @property
    def normalisation(self) -> list[float]:
        return [float(value) for value in self.statistics[:2]]
