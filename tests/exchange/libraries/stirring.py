"""What the tests of exchange share with the scripts that run beside the other libraries."""

import torch


def stirred(model):
    """Weights and running statistics that are nowhere zero or one by construction, so that none can
    be left out, or exchanged, unseen."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in model.parameters():
        if parameter.ndim in (1, 3):  # scales and biases; class tokens and positions
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()
