"""Two views at 224 pixels from a folder of JPEGs by ssl_lightning's `image_folder`; `folder.py`
calls it.

python our_folder.py FOLDER BATCH WORKERS
"""

from __future__ import annotations

import sys

from paced import Pace
from ssl_lightning.datamodules.image_folder import ImageFolder

from ssl_lightning import ViewSpec


class TwoViews:
    """What SimCLR asks for."""

    views = ViewSpec(full=2, strength="strong")


def main(root: str, batch_size: str, workers: str) -> None:
    data = ImageFolder(root=root, image_size=224, batch_size=int(batch_size), workers=int(workers))
    data.prepare_data()
    data.setup("fit")
    data.serve(TwoViews())
    pace = Pace()
    for fetched in data.train_dataloader():
        batch = data.on_after_batch_transfer(fetched, 0)
        assert [view.x.shape[-1] for view in batch["views"]] == [224, 224]
        pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
