"""The report at the end of a run: the encoder with its card, `summary.json`, then the closing table
and pictures."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning.utilities import rank_zero_warn

from ..data.datamodule import SSLDataModule
from ..data.figure import captioned
from ..data.files.unwritable import Unwritable
from ..distributed import all_or_none, on_first
from ..plugins.arguments import require
from ..run.failures import tolerated
from ..run.folder.metrics import rows_of
from ..run.forecast import duration
from ..run.loggers.show import show
from ..run.numbers.health import keep
from ..run.pace import seconds_until_end
from ..run.standing import Standing
from ..run.stops.peers import in_a_line
from ..types import View
from .budget import Minutes, seconds_of
from .closing import Closing, cells_of, compare, printed
from .drawing import caption_of, draw_overview, draw_plots, show_pictures
from .files import how_to_load, summary_of, write_encoder, write_results
from .gains import worsened
from .logged import log_encoder, log_results
from .overview import Overview, format_overview, overview, summary_of_overview
from .probes.held_out import in_words
from .rows import ClosingSettings
from .shown import corrupted_of, drawable, first_views, originals_of, pictures_of
from .stages import Stages
from .stamps import as_json, of_overview, of_probes, of_spectrum
from .untrained import began_with, keep_untrained
from .verdict import verdict

ADVISED = 64
"""Samples of the first batch that are looked at for advice."""


class Report(Standing):
    """Writes the encoder with its card, and the run's summary, when a run ends. Then it compares
    raw features, the untrained encoder, the weights that the run started from where something had
    learned them, the same encoder trained on labels alone, and the pretrained encoder, and draws
    pictures; without labels, it compares scores that need none. What fails there is named in a
    line, and takes nothing else with it.

    Args:
        enabled: whether there is a closing table, and pictures; the encoder, its card and the
            summary are written in any case.
        train_samples: at most this many labelled training samples are embedded for the closing
            table.
        test_samples: at most this many test samples are embedded.
        labels_per_class: number of labels per class in the columns with few labels.
        draws: how often those labels are drawn.
        labels_only: whether to train the untrained encoder on labels alone, for a row of the table
            of the pretraining data (not of further probe sets). `auto` computes each of its two
            cells if that costs less than two thirds of the pretraining, and there is time.
        layers: whether to evaluate a learned weighted sum of the layers too (SUPERB's protocol),
            for encoders that return the features of each layer.
        minutes: the tables of a run take at most about this many minutes, in which the most telling
            rows come first. Fewer samples are embedded where all would take too long, and cells for
            which there is no time are skipped; both are said under the table. `auto`: half as
            long as the training took, but at least 45 seconds. 0: no limit.
    """

    key: ClassVar[str] = "report"

    def __init__(
        self,
        enabled: bool = True,
        train_samples: int = 60_000,
        test_samples: int = 20_000,
        labels_per_class: int = 10,
        draws: int = 5,
        labels_only: bool | Literal["auto"] = "auto",
        layers: bool = True,
        minutes: Minutes = "auto",
    ) -> None:
        require(
            self,
            at_least=1,
            train_samples=train_samples,
            test_samples=test_samples,
            labels_per_class=labels_per_class,
            draws=draws,
        )
        if labels_only not in (True, False, "auto"):
            raise ValueError(f"Report(labels_only={labels_only!r}) must be true, false or auto.")
        if minutes != "auto":
            require(self, at_least=0, minutes=minutes)
        self.enabled = enabled
        self.settings = ClosingSettings(
            train_samples, test_samples, labels_per_class, draws, labels_only, layers, minutes
        )
        self.closed = self.has_table = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.closed, data = False, trainer.datamodule
        # a closing table, or the scores of a run without labels
        self.has_table = self.enabled and isinstance(data, SSLDataModule) and not data.supervised
        if self.enabled and trainer.run_folder and trainer.is_global_zero and not pl_module.supervised:
            keep_untrained(trainer, pl_module, trainer.run_folder)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        folder = trainer.run_folder
        draws_views = not batch_idx and self.enabled and trainer.is_global_zero and folder and isinstance(batch, dict)
        if not draws_views or not batch.get("views") or (folder / "plots" / "views.png").exists():
            return
        try:
            with tolerated(trainer), captioned(*caption_of(trainer, pl_module)):
                captions = originals_of(trainer.datamodule, batch, pl_module.views)
                captions |= first_views(batch, pl_module.views.clean)
                captions |= corrupted_of(pl_module, trainer, batch)
                show_pictures(trainer, trainer.datamodule, captions, folder / "plots" / "views.png")
            if isinstance(trainer.datamodule, SSLDataModule):
                some = [view.each(lambda x: drawable(x[:ADVISED])) for view in batch["views"][: pl_module.views.full]]
                for line in trainer.datamodule.advice(some):
                    rank_zero_warn(f"{line} See {folder / 'plots' / 'views.png'}.")
        except Unwritable:
            raise
        except Exception as error:
            rank_zero_warn(f"plots/views.png was not drawn, and the run goes on: {in_a_line(error)}.")

    def seconds_after(self, trainer: Any, seconds: float) -> float:
        if not self.has_table:
            return 0.0
        most = seconds_of(self.settings.minutes, seconds)
        # of a few minutes in all, training and table have half each
        return min(most, seconds) if self.settings.minutes == "auto" and seconds_until_end(trainer) < math.inf else most

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.close(trainer, pl_module)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if not self.closed:  # resumed from the checkpoint of the last step: no step was left to train
            pl_module.to(trainer.strategy.root_device)  # from where Lightning has taken it
            self.close(trainer, pl_module)
            pl_module.cpu()

    def close(self, trainer: Any, pl_module: Any) -> None:
        """Writes the report: every process embeds a share of the samples, rank 0 does the rest."""
        self.closed = True
        folder = trainer.run_folder
        if folder is None:
            return
        why_not = "The closing table was not computed" + (" yet." if self.enabled else " (--report.enabled false).")

        def write() -> None:
            write_encoder(trainer, pl_module, folder)
            summary = write_results(trainer, pl_module, folder, {}, why_not)
            if not self.enabled:
                log_encoder(trainer, pl_module, folder, summary)

        with tolerated(trainer):
            on_first(write)
        if not self.enabled:
            return
        stages = Stages(trainer)
        closing = self.tables(trainer, pl_module, folder, stages)
        seen = self.overview(trainer, pl_module, folder, stages)
        shown: dict[str, View] = {}
        with stages.attempt("the method's pictures"):
            shown = all_or_none(lambda: pictures_of(pl_module, trainer))
        with tolerated(trainer), captioned(*caption_of(trainer, pl_module)):
            on_first(lambda: self.write(trainer, pl_module, folder, closing, shown, stages, seen))

    def tables(self, trainer: Any, pl_module: Any, folder: Path, stages: Stages) -> dict[str, Closing]:
        """The closing table of each labelled set, by prefix; for a supervised run its accuracy."""
        data = trainer.datamodule
        if not isinstance(data, SSLDataModule):
            return {}
        if pl_module.supervised:
            stages.begin(1, lambda: math.inf)
            with stages.attempt("accuracy"):
                table, split, features, labels, note, stamp = verdict(trainer, pl_module, data, self.settings, stages)
                return {"": Closing(table, split, features, labels, note, stamp=stamp)}
            return {}
        began = began_with(folder, pl_module, data.seed, stages)
        closing = compare(trainer, pl_module, data.probed(), began, self.settings, stages)
        for prefix, each in closing.items():
            if line := worsened(each.table):
                rank_zero_warn(f"{prefix}{line}")
                keep(trainer, f"{prefix}published", f"{prefix}{line}")
        return closing

    def overview(self, trainer: Any, pl_module: Any, folder: Path, stages: Stages) -> Overview | None:
        """What a run without labels ends with in place of a closing table."""
        data = trainer.datamodule
        if not isinstance(data, SSLDataModule) or pl_module.supervised or data.probed():
            return None
        began = began_with(folder, pl_module, data.seed, stages)
        stages.begin(1, lambda: math.inf)
        with stages.attempt("scores without labels"):
            return overview(trainer, pl_module, began, self.settings, stages)
        return None

    def protocols(
        self, trainer: Any, pl_module: Any, closing: dict[str, Closing], seen: Overview | None
    ) -> dict[str, Any]:
        """The stamps of all results of the run, as `summary.json` has them."""
        tables = {f"final/{prefix}".rstrip("/"): each.stamp for prefix, each in closing.items()}
        stamps = {name: stamp for name, stamp in tables.items() if stamp is not None} | of_probes(trainer.callbacks)
        stamps |= of_spectrum(trainer)
        return as_json(stamps | ({} if seen is None else {"label_free": of_overview(seen, pl_module.views)}))

    def write(
        self,
        trainer: Any,
        pl_module: Any,
        folder: Path,
        closing: dict[str, Closing],
        shown: dict[str, View],
        stages: Stages,
        seen: Overview | None,
    ) -> None:
        """Draws pictures, prints the tables, and adds them to summary and card."""
        pictures = draw_plots(folder / "plots", rows_of(trainer), trainer, pl_module, closing, stages)
        without = named = ""
        scores: dict[str, float] = {}
        if seen is not None:
            without, scores = format_overview(seen), summary_of_overview(seen)
            with stages.attempt("pictures without labels"):
                drawn, named = draw_overview(folder, seen)
                pictures |= drawn
        if shown:
            with stages.attempt("the method's pictures"):
                show_pictures(trainer, trainer.datamodule, shown, folder / "plots" / "pictures.png", compare=True)
        cells = cells_of(closing)
        with stages.attempt("loggers"):
            show(trainer, pictures)
            log_results(trainer, closing, cells, seen, scores)
        protocols: dict[str, Any] = {}
        with stages.attempt("protocols"):
            protocols = self.protocols(trainer, pl_module, closing, seen)
        none = "There is no closing table." if stages.failed else unlabelled(trainer.datamodule)
        held_out = in_words(summary_of(trainer))
        table = "\n\n".join(filter(None, [printed(closing) or none, without, named, held_out, *stages.failures]))
        failed = {"report/failed": " | ".join(stages.failures)} if stages.failed else {}
        results: dict[str, Any] = protocols | cells | scores | failed
        stages.end()
        print(f"\n{table}\n")
        summary = write_results(trainer, pl_module, folder, results, table)
        failures = len(stages.failures)
        with stages.attempt("the encoder for loggers"):
            log_encoder(trainer, pl_module, folder, summary)
        stages.end()
        print(*stages.failures[failures:], sep="\n", end="\n" * (len(stages.failures) > failures))
        print(
            f"{summary['steps']:,} steps in {duration(summary['seconds'])}. Run folder: {folder}\n\n"
            + how_to_load(trainer, pl_module, folder)
        )
        sys.stdout.flush()


def unlabelled(data: Any) -> str:
    """Says that there is no table, and why."""
    why = f" {type(data).__name__} {data.why_unlabelled}." if isinstance(data, SSLDataModule) else ""
    return f"No labelled set: no closing table.{why}"
