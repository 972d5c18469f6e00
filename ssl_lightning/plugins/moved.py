"""Names that earlier versions wrote into checkpoints and configs, with their present names."""

from __future__ import annotations

from typing import Any

CLASSES = {
    "ssl_lightning.checkpoint.AtomicIO": "ssl_lightning.run.checkpoints.checkpoint.AtomicIO",
    "ssl_lightning.encoders.huggingface.HuggingFaceText": "ssl_lightning.encoders.hf_text.HuggingFaceText",
    "ssl_lightning.health.Health": "ssl_lightning.run.numbers.health.Health",
    "ssl_lightning.loggers.CSV": "ssl_lightning.run.loggers.csv_file.CSV",
    "ssl_lightning.loggers.TensorBoard": "ssl_lightning.run.loggers.tensorboard.TensorBoard",
    "ssl_lightning.loggers.Wandb": "ssl_lightning.run.loggers.wandb.Wandb",
    "ssl_lightning.probes.collapse.CollapseMonitor": "ssl_lightning.evaluation.probes.collapse.CollapseMonitor",
    "ssl_lightning.probes.held_out.HeldOut": "ssl_lightning.evaluation.probes.held_out.HeldOut",
    "ssl_lightning.probes.knn.KNNProbe": "ssl_lightning.evaluation.probes.knn.KNNProbe",
    "ssl_lightning.probes.linear.LinearProbe": "ssl_lightning.evaluation.probes.linear.OnlineLinearProbe",
    "ssl_lightning.progress.Meter": "ssl_lightning.run.meter.Meter",
    "ssl_lightning.progress.Progress": "ssl_lightning.run.progress.Progress",
    "ssl_lightning.report.Report": "ssl_lightning.evaluation.report.Report",
    "ssl_lightning.run.checkpoint.AtomicIO": "ssl_lightning.run.checkpoints.checkpoint.AtomicIO",
    "ssl_lightning.run.folder.loggers.CSV": "ssl_lightning.run.loggers.csv_file.CSV",
    "ssl_lightning.run.folder.loggers.TensorBoard": "ssl_lightning.run.loggers.tensorboard.TensorBoard",
    "ssl_lightning.run.folder.loggers.Wandb": "ssl_lightning.run.loggers.wandb.Wandb",
    "ssl_lightning.run.health.Health": "ssl_lightning.run.numbers.health.Health",
    "ssl_lightning.run.loggers.CSV": "ssl_lightning.run.loggers.csv_file.CSV",
    "ssl_lightning.run.loggers.TensorBoard": "ssl_lightning.run.loggers.tensorboard.TensorBoard",
    "ssl_lightning.run.loggers.Wandb": "ssl_lightning.run.loggers.wandb.Wandb",
    "ssl_lightning.run.saving.Checkpoint": "ssl_lightning.run.checkpoints.saving.Checkpoint",
    "ssl_lightning.saving.Checkpoint": "ssl_lightning.run.checkpoints.saving.Checkpoint",
    "ssl_lightning.validation.Validation": "ssl_lightning.evaluation.validation.Validation",
}
"""Earlier class paths that a recorded config can hold, with the present ones."""

KEYS = {"linear_probe": "online_probe"}
"""Earlier keys of standing callbacks in a config and on the command line. `linear_probe` is also
the name of a method."""

STATES = {
    "Checkpoint": "checkpoint",
    "Meter": "meter",
    "Metrics": "metrics",
    "Validation": "validation",
    "ssl_lightning.probes.linear.LinearProbe": "online_probe",
}
"""Earlier keys of the callbacks' states in a checkpoint. The alarms' states had another structure;
`renamed_states` converts them."""

RAISED = 10**9
"""A number of looks in a row larger than any patience; it marks an alarm that was already
raised."""


def renamed_key(key: str) -> str:
    """The present name of a config's key, which may be dotted."""
    first, dot, rest = key.partition(".")
    return f"{KEYS.get(first, first)}{dot}{rest}"


def renamed(config: Any) -> Any:
    """A recorded config with each earlier `class_path` replaced by the present one."""
    if isinstance(config, list):
        return [renamed(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: CLASSES.get(value, value) if key == "class_path" and isinstance(value, str) else renamed(value)
        for key, value in config.items()
    }


def renamed_states(states: dict[str, Any]) -> dict[str, Any]:
    """The callbacks' states of a checkpoint under their present keys."""
    if "metrics" in states:  # present in every checkpoint that has the present keys
        return states
    states = dict(states)
    outside = {f"train/{name}": looks for name, looks in states.pop("Health", {}).get("outside", {}).items()}
    if collapse := states.pop("CollapseMonitor", None):
        looks = RAISED if collapse["alarmed"] else collapse["low"]
        outside |= {"collapse/std": looks, "collapse/rank": looks}
    return {"health": {"outside": outside}, **{STATES.get(key, key): state for key, state in states.items()}}
