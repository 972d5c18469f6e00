"""Weights & Biases in the run folder: one record a step, tables, media, the encoder, alarms."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from ...data.files.atomic import write_text
from ...plugins.gate import read_yaml
from ..settings.monitors import RISES
from .base import Axes, InRunFolder, Rows, check_installed
from .tensorboard import table_in

ID_FILE = "wandb.json"
STEP, AXES = "trainer/global_step", ("samples", "epoch")
SECONDS_BETWEEN_WRITES = 1.0
"""What a killed run loses at most."""
TITLE = 63
"""The most letters of an alert's title."""
MOST = 4
"""Settings of a sweep that stand in a run's name."""
NO_ENTITY = re.compile(r"[^A-Za-z0-9_-]")
"""What the name of a user or team cannot have."""


class Wandb(InRunFolder, WandbLogger):
    """Weights & Biases: one run, however often it is resumed, with its files in the run folder.

    The run folder's `wandb.json` holds its id. Without a login (`wandb login`, WANDB_API_KEY) the
    run is offline and no question is put. A killed run keeps what was logged until a second before.
    The results of `validate` and `test` go to the run's summary.

    Args:
        project: of W&B; None: WANDB_PROJECT, else `ssl-lightning`.
        name: of the run; None: WANDB_NAME, else the run folder's, in a sweep with the settings that
            it tries.
        id: of the run; None: the one in the run folder, else WANDB_RUN_ID, else a new one.
        entity: user or team; None: W&B's default.
        group, job_type, notes: W&B's, to find the run by.
        tags: W&B's, as a list, or as a text with commas.
        offline: write files only, for `wandb sync`.
        log_model: whether the encoder, with its card, config and pictures, becomes an artifact.

    Raises:
        ModuleNotFoundError: wandb is not installed.
        ValueError: W&B can have no such entity, which it would say only once it uploads.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        id: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | str | None = None,
        notes: str | None = None,
        offline: bool = False,
        log_model: bool = True,
    ) -> None:
        check_installed("wandb", "wandb")
        project = project or os.environ.get("WANDB_PROJECT", "ssl-lightning")
        if entity and (wrong := NO_ENTITY.search(entity)):
            raise ValueError(f"W&B can have no user or team {entity!r}; give one without {wrong[0]!r}.")
        super().__init__(
            name=name,
            project=project,
            id=id,
            offline=offline,
            entity=entity,
            group=group,
            job_type=job_type,
            tags=[each.strip() for each in tags.split(",") if each.strip()] if isinstance(tags, str) else tags,
            notes=notes,
        )
        self.keeps_encoder = log_model
        self.metrics: Sequence[str] = ()
        self.axes: Axes = dict
        self._started = False
        self._row: dict[str, Any] = {}
        """What was logged of a step so far."""
        self._reached: dict[str, float] = {}
        """The axes of that step."""

    def open(self, folder: Path, fits: bool, axes: Axes = dict, metrics: Sequence[str] = ()) -> None:
        if folder != self.folder:
            self._finish()
        super().open(folder, fits, axes, metrics)
        self._save_dir, self.axes, self.metrics = str(folder), axes, metrics

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self.folder and self._experiment is None:
            self._experiment = self._start(self.folder)
        return super().experiment

    # Starting a run.

    def _start(self, folder: Path) -> Any:
        import wandb

        # Not `WandbLogger(experiment=...)`: a logger is built before its run folder is known.
        if wandb.run is not None:  # the user's, of `wandb.agent` perhaps
            if (settings := sweep_settings()) and not self._wandb_init["name"] and not wandb.run.settings.run_name:
                wandb.run.name = f"{folder.parent.name} {settings}"
            define(wandb.run, self.metrics, {f"{name.partition('/')[0]}/*" for name in self.metrics})
            return wandb.run
        is_run = (folder / "config.yaml").is_file()
        known = known_run(folder) if is_run else {}
        options = {
            **self._wandb_init,
            "dir": str(folder),
            "id": self._wandb_init["id"] or known.get("id") or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
            "entity": self._wandb_init["entity"] or known.get("entity"),
            "name": self._wandb_init["name"]
            or os.environ.get("WANDB_NAME")
            or (title_of(folder) if is_run and not known else None),  # a run that goes on keeps its name
        }
        del options["anonymous"]  # W&B no longer has it, and says so
        chosen: Any = "offline" if self._offline else wandb.setup().settings.mode  # of WANDB_MODE, or `wandb offline`
        chosen = {"dryrun": "offline", "run": "online"}.get(chosen, chosen)  # older names
        try:
            mode: Any = "offline" if chosen == "online" and not wandb.login(prompt=False, verify=False) else chosen
            run = wandb.init(
                **options,
                mode=mode,
                settings=wandb.Settings(
                    quiet=True, silent=mode == "offline", x_transaction_log_flush_interval=SECONDS_BETWEEN_WRITES
                ),
            )
        except wandb.Error as error:
            later = " With WANDB_MODE=offline it writes files, to be uploaded later." * (chosen == "online")
            raise ValueError(f"W&B does not start: {str(error).rstrip('.')}.{later}") from error
        define(run, self.metrics, ["*"])
        self._started = True
        if is_run and mode != "disabled":
            entity = {"entity": options["entity"]} if options["entity"] else {}
            write_text(folder / ID_FILE, json.dumps({"id": run.id, "project": self._project, **entity}))
        if mode == "offline":
            why = "" if chosen == "offline" else " (not logged in)"
            print(f"W&B: offline{why}. To upload: wandb sync {folder}/wandb/offline-run-*-{run.id}", flush=True)
        return run

    # What is logged.

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.fits:
            self.experiment.summary.update(dict(metrics))
            return
        step = self._row.get(STEP, 0) if step is None else step
        if step != self._row.get(STEP, step):
            self.commit()
        if not self._row:
            self._reached = self.axes()
        self._row |= {**metrics, STEP: step}

    @rank_zero_only
    def commit(self) -> None:
        row, self._row = self._row, {}
        if row:
            self.experiment.log({**row, **self._reached})

    def log_media(self, name: str, path: Path, step: int) -> None:
        import wandb

        if path.suffix == ".png":
            self.log_metrics({name: [wandb.Image(str(path))]}, step)
        elif path.suffix == ".wav":
            self.log_metrics({name: [wandb.Audio(str(path))]}, step)
        elif path.suffix == ".csv":
            columns, *rows = table_in(path)
            self.log_rows(name, columns, rows, step)

    def log_rows(self, name: str, columns: Sequence[str], rows: Rows, step: int) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        if self.fits:
            self.log_metrics({name: table}, step)
        else:
            self.experiment.log({name: table})

    def summarise(self, values: Mapping[str, float], headline: Sequence[str], step: int) -> None:
        self.experiment.summary.update(dict(values))

    def alert(self, title: str, text: str, step: int) -> None:
        self.experiment.alert(title[:TITLE], text, level="WARN")

    def log_encoder(self, name: str, files: Sequence[Path], facts: Mapping[str, Any]) -> None:
        import wandb

        if not self.keeps_encoder or self.folder is None:
            return
        self.commit()
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII), type="model", metadata=dict(facts))
        for path in files:  # "immutable": they are not copied before they are uploaded
            artifact.add_file(str(path), name=path.relative_to(self.folder).as_posix(), policy="immutable")
        self.experiment.log_artifact(artifact, aliases=["latest", self.folder.name])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.commit()
        super().finalize(status)
        self._finish(failed=status == "failed")

    def _finish(self, failed: bool = False) -> None:
        """Ends W&B's run if this logger started it; a later `experiment` resumes it."""
        self.commit()
        if self._experiment is not None and self._started:
            self._experiment.finish(exit_code=int(failed))
        self._experiment, self._started = None, False


def known_run(folder: Path) -> dict[str, str]:
    """The W&B run of a run folder: its id, project, and the entity where one was named; empty where
    there is none."""
    file = folder / ID_FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def add_later(folder: Path, tables: Mapping[str, tuple[Sequence[str], Rows]], values: Mapping[str, float]) -> None:
    """Adds to the W&B run of a run folder what was computed after the run had ended.

    Args:
        folder: the run folder, with `wandb.json`.
        tables: columns and rows by name.
        values: for the summary.

    Raises:
        ValueError: W&B does not start.
    """
    known = known_run(folder)
    logger = Wandb(project=known.get("project"), id=known.get("id"), entity=known.get("entity"))
    logger.open(folder, fits=False)
    for name, (columns, rows) in tables.items():
        logger.log_rows(name, columns, rows, step=0)
    logger.summarise(values, (), step=0)
    logger.finalize("success")


def define(run: Any, metrics: Iterable[str], groups: Iterable[str]) -> None:
    """Names the axes of a W&B run, and has its summary hold the best and the last value of the
    metrics whose best is known: the highest accuracy, the lowest loss."""
    for name in (STEP, *AXES):
        run.define_metric(name)
    for name in groups:
        run.define_metric(name, step_metric=STEP, step_sync=True)
    for name in metrics:
        last = name.rpartition("/")[2]
        best = "max" if last in RISES else "min" if last == "loss" else ""
        if best:
            run.define_metric(name, step_metric=STEP, step_sync=True, summary=f"{best},last")


def title_of(folder: Path) -> str:
    """The name of a run in W&B: method and data with the time; in a sweep with the settings that
    the run tries."""
    settings = sweep_settings()
    return f"{folder.parent.name} {settings}" if settings else f"{folder.parent.name}/{folder.name}"


def sweep_settings() -> str:
    """What tells this run of a sweep from the others, such as `temperature=0.1 batch_size=64`;
    empty outside of a sweep. An agent writes them into a file before it starts a run."""
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not path or not Path(path).is_file():
        return ""
    tree = read_yaml(Path(path).read_text(encoding="utf-8"), path)
    values = {str(key): each["value"] for key, each in tree.items() if isinstance(each, dict) and "value" in each}
    short = {key: key.rpartition(".")[2] for key in values}
    names = {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
    more = f" and {len(values) - MOST} more" if len(values) > MOST else ""
    return " ".join(f"{names[key]}={value}" for key, value in [*values.items()][:MOST]) + more
