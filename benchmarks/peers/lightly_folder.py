"""Two views at 224 pixels from a folder of JPEGs by lightly's loader. Runs in lightly's
environment; `folder.py` calls it.

    python lightly_folder.py FOLDER BATCH WORKERS

Follows lightly's examples/pytorch_lightning/simclr.py, which names
`LightlyDataset("path/to/folder")`: SimCLRTransform with its defaults (224 pixels, blur),
MultiViewCollate, DataLoader.
"""

from __future__ import annotations

import sys

from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly.transforms.simclr_transform import SimCLRTransform
from paced import Pace
from torch.utils.data import DataLoader


def main(root: str, batch_size: str, workers: str) -> None:
    loader = DataLoader(
        LightlyDataset(root, transform=SimCLRTransform()),
        batch_size=int(batch_size),
        collate_fn=MultiViewCollate(),
        shuffle=True,
        drop_last=True,
        num_workers=int(workers),
        persistent_workers=True,  # kinder than its example: no workers to start in each pass over a small folder
    )
    pace = Pace()
    while True:
        for (_, _), _, _ in loader:
            pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
