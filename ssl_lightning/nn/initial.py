"""How weights start."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def start(module: Module, std: float | None = None) -> Module:
    """Draws the weights of every linear layer in a module, sets their biases to zero, and returns
    the module.

    Args:
        module: whose layers to initialise.
        std: standard deviation of a normal distribution: 0.02 in BERT (Devlin et al. 2018, arXiv
            1810.04805, the authors' code) and wav2vec 2.0. None: Xavier's uniform one, as in MAE
            (He et al. 2021, arXiv 2111.06377, Appendix A.1).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight) if std is None else nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
