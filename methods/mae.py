"""MAE."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, TokenEncoder, View, ViewSpec
from ssl_lightning.nn.initial import start
from ssl_lightning.nn.masks.tokens import blank, put, random_masking, take
from ssl_lightning.nn.positions import GridPositions
from ssl_lightning.nn.skill import skill
from ssl_lightning.nn.transformer import Transformer
from ssl_lightning.plugins.arguments import require
from ssl_lightning.types import Tokens


class MAE(SSLMethod):
    """Masked autoencoding: the encoder is given a quarter of the patches, and a decoder predicts
    the rest.

    He, Chen, Xie, Li, Dollar and Girshick, Masked Autoencoders Are Scalable Vision Learners (2021),
    arXiv 2111.06377, Section 3.

    Args:
        encoder: a vision transformer; it is given the visible tokens alone, and is what the paper
            keeps.
        mask_ratio: part of the tokens that is hidden (Figure 5: 0.75).
        decoder_dim, decoder_depth, decoder_heads: width, blocks and attention heads of the decoder;
            the paper's has 512, 8 and 16 (Table 1). Fine-tuning is as good with one block (Table
            1a), a linear probe needs more.
        normalise_target: whether each patch is predicted relative to its own mean and standard
            deviation (Table 1d).
    """

    encoder: TokenEncoder
    views = ViewSpec(full=1, strength="weak")
    reads_padding = False
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=10),
        # Table 8, for batches of 4,096.
        "paper": OptimizerSpec("adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40),
    }

    def __init__(
        self, encoder: TokenEncoder, *, mask_ratio: float = 0.75, decoder_dim: int = 128, decoder_depth: int = 2,
        decoder_heads: int = 4, normalise_target: bool = True, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, below=1, mask_ratio=mask_ratio)
        if not encoder.takes_subsets:
            raise TypeError(
                f"MAE gives the visible tokens alone, and {type(encoder).__name__} needs all of a row; take ViTEncoder."
            )
        if decoder_dim % 4 or decoder_dim % max(1, decoder_heads):
            raise ValueError(
                f"MAE(decoder_dim={decoder_dim}) must be a multiple of decoder_heads={decoder_heads}, and of 4 for rows"
                " and columns."
            )
        self.mask_ratio, self.normalise_target = mask_ratio, normalise_target
        self.embed = start(nn.Linear(encoder.dim, decoder_dim))
        self.mask_token = nn.Parameter(torch.randn(decoder_dim) * 0.02)
        self.positions = GridPositions(decoder_dim)
        self.decoder = Transformer(decoder_dim, decoder_depth, decoder_heads)
        self.paint = start(nn.Linear(decoder_dim, encoder.content_dim))

    @property
    def views_a_step(self) -> float:
        # The visible tokens through the encoder, and a light decoder.
        return super().views_a_step * (1 - self.mask_ratio) + 0.1

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        painted, hidden = self.reconstruct(view, batch["key"])  # [S, M, P], [S, M]
        target, _, _ = self.target(take(self.encoder.content(view), hidden))
        loss = (painted.float() - target).square().mean()
        logs = {"skill": skill(loss.detach(), target.square().mean())}  # against each patch's mean, or the data's
        return {"loss": loss, "embeddings": painted.mean(dim=1), "logs": logs}

    def reconstruct(self, view: View, key: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted contents of the hidden tokens [S, M, P], and their positions [S, M]."""
        x, first = self.encoder.tokenize(view).x, self.encoder.prefix  # [S, first + N, D]
        visible, hidden = random_masking(key, x.shape[1] - first, self.mask_ratio)
        kept = Tokens(torch.cat([x[:, :first], take(x[:, first:], visible)], dim=1))
        seen = self.embed(self.encoder.mix(kept))  # [S, first + V, D']
        p = self.positions(self.encoder.grid(view))  # [N, D']
        # In any order, since the positions are added: the hidden ones last.
        tokens = torch.cat([seen[:, :first], seen[:, first:] + p[visible], self.mask_token + p[hidden]], dim=1)
        return self.paint(self.decoder(tokens, first=seen.shape[1])), hidden

    def target(self, content: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets for contents [S, M, P], and the mean and standard deviation [S, M, 1] that are
        taken out of them."""
        content = content.float()
        variance, mean = torch.var_mean(content, dim=2, keepdim=True)
        deviation = (variance + 1e-6).sqrt()
        return ((content - mean) / deviation if self.normalise_target else content), mean, deviation

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch["views"]
        content = self.encoder.content(view)
        _, hidden = random_masking(batch["key"], content.shape[1], self.mask_ratio)
        return {"visible": self.encoder.restore(blank(content, hidden), view)}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The view, its visible patches, and the view with its hidden patches as predicted; with
        `normalise_target` they have the mean and the standard deviation of the true patch, as in
        the paper's figures."""
        (view,) = batch["views"]
        painted, hidden = self.reconstruct(view, batch["key"])
        content = self.encoder.content(view).float()
        _, mean, deviation = self.target(take(content, hidden))
        painted = painted.float() * deviation + mean if self.normalise_target else painted.float()
        restored = self.encoder.restore(put(content, hidden, painted), view)
        return {"original": view.x, **self.corrupted(batch), "reconstructed": restored}
