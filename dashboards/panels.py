"""The sections and metrics that workspace and report show."""

from __future__ import annotations

CURVES = {
    "Training": ["train/loss", "train/lr", "train/grad_norm"],
    "How good it is": ["probe/linear/top1", "probe/knn/top1"],
    "Collapse": ["collapse/std", "collapse/rank", "collapse/agreement", "collapse/growth"],
    "Without labels": ["spectrum/rankme", "spectrum/alpha", "spectrum/lidar"],
    "Speed": ["speed/samples_per_s", "speed/data_wait"],
}
"""Sections, each with the metrics that have a panel there."""
AXES = {"trainer/global_step": "optimizer steps", "samples": "samples seen", "epoch": "epochs"}
"""Axes with their titles; the first is that of the panels."""
BARS = ["closing/pretrained/linear", "closing/pretrained/knn", "closing/raw/linear", "closing/untrained/linear"]
"""Values of the closing table that are compared over runs."""
TABLE = "tables/closing"
PICTURES = ["plots/views", "plots/embedding", "plots/closing"]
