"""Losses: tensors -> scalar. No Lightning and no process group in here: a method gathers, a loss
computes."""
