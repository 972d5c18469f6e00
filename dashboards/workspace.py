"""Makes a W&B workspace with the panels of a pretraining project.

    pip install 'ssl-lightning[dashboards]'
    python dashboards/workspace.py ENTITY ssl-lightning

prints the workspace's address. Sections and metrics stand in `panels.py`.
"""

from __future__ import annotations

import argparse
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from panels import AXES, BARS, CURVES, PICTURES, TABLE


def workspace(entity: str, project: str) -> ws.Workspace:
    """A workspace that is not saved yet.

    Args:
        entity: the user or team of W&B.
        project: of the runs.
    """
    step, title = next(iter(AXES.items()))
    curves = [
        ws.Section(
            name=name,
            panels=[wr.LinePlot(title=metric, x=step, title_x=title, y=[metric]) for metric in metrics],
            is_open=name != "Speed",
        )
        for name, metrics in CURVES.items()
    ]
    against: list[Any] = [
        wr.LinePlot(title=f"{metric} by {title}", x=axis, title_x=title, y=[metric])
        for axis, title in list(AXES.items())[1:]
        for metric in CURVES["How good it is"]
    ]
    closing = ws.Section(
        name="Closing table",
        panels=[
            wr.BarPlot(title="closing table, by run", metrics=list(BARS)),
            wr.WeavePanelSummaryTable(table_name=TABLE),
            wr.ParameterImportancePlot(with_respect_to=BARS[0]),
        ],
        is_open=True,
    )
    pictures = ws.Section(name="Pictures", panels=[wr.MediaBrowser(media_keys=list(PICTURES))], is_open=True)
    return ws.Workspace(
        name="Pretraining",
        entity=entity,
        project=project,
        sections=[*curves, ws.Section(name="By samples and epochs", panels=against), closing, pictures],
        settings=ws.WorkspaceSettings(x_axis=step),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a W&B workspace for the runs of a project.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="ssl-lightning")
    options = parser.parse_args()
    print(workspace(options.entity, options.project).save().url)


if __name__ == "__main__":
    main()
