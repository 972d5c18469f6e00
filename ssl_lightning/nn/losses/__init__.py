"""Losses: tensors -> scalar. They know neither Lightning nor processes: a method gathers, a loss
computes."""
