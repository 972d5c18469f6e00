"""Makes a W&B report on the runs of a project: the closing tables, the curves, and what differs.

    pip install 'ssl-lightning[dashboards]'
    python dashboards/report.py ENTITY ssl-lightning

saves a draft and prints its address. Sections and metrics stand in `panels.py`.
"""

from __future__ import annotations

import argparse
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
from panels import AXES, BARS, CURVES, PICTURES, TABLE


def report(entity: str, project: str) -> wr.Report:
    """A report that is not saved yet.

    Args:
        entity: the user or team of W&B.
        project: of the runs.
    """
    step, title = next(iter(AXES.items()))

    def grid(*panels: Any) -> wr.PanelGrid:
        return wr.PanelGrid(runsets=[wr.Runset(entity=entity, project=project)], panels=list(panels))

    blocks: list[Any] = [
        wr.H1("How good the features are"),
        wr.P("Accuracy of probes on frozen features. Raw features and the untrained encoder are the baselines."),
        grid(
            wr.BarPlot(title="closing table, by run", metrics=list(BARS)),
            wr.WeavePanelSummaryTable(table_name=TABLE),
        ),
        wr.H1("How the runs went"),
    ]
    for name, metrics in CURVES.items():
        panels = [wr.LinePlot(title=metric, x=step, title_x=title, y=[metric]) for metric in metrics]
        blocks += [wr.H2(name), grid(*panels)]
    blocks += [
        wr.H1("What they saw"),
        grid(wr.MediaBrowser(media_keys=list(PICTURES))),
        wr.H1("What differs"),
        grid(wr.RunComparer(diff_only="split")),
    ]
    return wr.Report(entity=entity, project=project, title="Pretraining", blocks=blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a W&B report on the runs of a project.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="ssl-lightning")
    options = parser.parse_args()
    drafted = report(options.entity, options.project)
    drafted.save(draft=True)
    print(drafted.url)


if __name__ == "__main__":
    main()
