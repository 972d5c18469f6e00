"""Denoising autoencoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, TextEncoder, TokenEncoder, View, ViewSpec
from ssl_lightning.augment.random import fold, normal, uniform
from ssl_lightning.distributed import total
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.skill import skill, wide

NOISE = 0x6E6F697365
"""Separates the draw of the noise from those of augmentations."""
STANDARD = (0.5, 0.5)
"""The noise at which runs with different noise are compared."""


class Denoise(SSLMethod):
    """Denoising autoencoder: the network is given an image or a sound with noise, and predicts it
    without.

    Vincent, Larochelle, Bengio and Manzagol, Extracting and Composing Robust Features with
    Denoising Autoencoders (2008), Section 2.3; with Gaussian noise: Vincent et al., Stacked
    Denoising Autoencoders (2010), Section 3.3.

    Args:
        encoder: sees the noisy view.
        noise: range of the noise's standard deviation, from which each sample draws its own; 1 is
            about the standard deviation of normalised data.
    """

    encoder: TokenEncoder
    views = ViewSpec(full=1, strength="weak")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95), reference_batch=None, warmup_epochs=5)
    }

    def __init__(self, encoder: TokenEncoder, *, noise: tuple[float, float] = (0.2, 1.0), **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        if isinstance(encoder, TextEncoder):
            raise TypeError(
                "Denoise needs an ssl_lightning.TokenEncoder of images or sound, such as ViTEncoder, got a"
                f" {type(encoder).__name__}."
            )
        if len(noise) != 2 or not 0 <= noise[0] <= noise[1] or noise[1] == 0:
            raise ValueError(
                f"Denoise(noise={list(noise)}) is not a range of standard deviations, the lower one first, such as"
                " [0.2, 1.0]."
            )
        self.noise = (float(noise[0]), float(noise[1]))
        self.decoder = nn.Linear(encoder.dim, encoder.content_dim)

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        clean, noisy, denoised, real, h = self.denoise(view, self.corrupt(view, batch["key"], self.noise))
        error, before, count = _squares(denoised - clean, real), _squares(noisy - clean, real), real.sum()
        logs = {"skill": skill(error.detach(), before)}
        return {"loss": error / count.clamp(min=1), "embeddings": h, "logs": logs, "weight": count}

    def corrupt(self, view: View, key: Tensor, noise: tuple[float, float]) -> View:
        """The view with Gaussian noise, whose standard deviation each sample draws from a range;
        padding is not changed."""
        x, key = view.x, fold(key, NOISE)
        deviation = uniform(key, 1, *noise)
        # Drawn along the last axis first, so that a longer row begins with the noise of a shorter.
        drawn = normal(fold(key, 1), x[0].numel()).view(len(x), x.shape[-1], *x.shape[1:-1]).movedim(1, -1)
        drawn = drawn * deviation.view(-1, *(1,) * (x.ndim - 1))
        if view.segment is not None:
            drawn = drawn * (view.segment > 0).view(len(x), *(1,) * (x.ndim - 2), -1)
        return view._replace(x=x + drawn.to(x.dtype))

    def denoise(self, view: View, noisy: View) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns the contents [S, N, P] of the view, of the noisy view, and as predicted; which
        tokens are real [S, N, 1]; the mean contextual token [S, dim]."""
        tokens, first = self.encoder.tokenize(noisy), self.encoder.prefix
        h = self.encoder.mix(tokens)
        clean, seen = (wide(self.encoder.content(each)) for each in (view, noisy))
        real = (
            torch.ones_like(clean[:, :, :1])
            if tokens.segment is None
            else (tokens.segment[:, first:, None] > 0).to(clean.dtype)
        )
        return clean, seen, wide(self.decoder(h[:, first:])), real, pooled(h.detach(), tokens)

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Scores at a standard deviation of 0.5, whatever the training's is, so that runs can be
        compared: `skill` against the noisy view, in squared error, and `gain`, the decibels by
        which there is less noise."""

        def sums(batch: Batch) -> Tensor:
            (view,) = batch["views"]
            clean, noisy, denoised, real, _ = self.denoise(view, self.corrupt(view, batch["key"], STANDARD))
            return torch.stack([_squares(each - clean, real) for each in (denoised, noisy)])

        error, before = total(map(sums, batches), 2, self.device)
        return {"skill": skill(error, before), "gain": 10 * (before.clamp(min=1e-12) / error.clamp(min=1e-12)).log10()}

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        return {"noisy": self.corrupt(batch["views"][0], batch["key"], self.noise).x}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The view, with noise of a standard deviation of 0.5, and as it is predicted."""
        (view,) = batch["views"]
        noisy = self.corrupt(view, batch["key"], STANDARD)
        clean, _, denoised, real, _ = self.denoise(view, noisy)
        restored = self.encoder.restore(torch.where(real > 0, denoised, clean), view)
        return {"original": view.x, "noisy": noisy.x, "denoised": restored}


def _squares(error: Tensor, real: Tensor) -> Tensor:
    """Errors [S, N, P] -> the sum over real tokens [S, N, 1] of their mean square."""
    return (error.square() * real).sum() / error.shape[2]
