"""`ssl-lightning report`: runs as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.files.atomic import write_text
from ..evaluation.comparison.recorded import read_runs
from ..evaluation.page.page import page


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning report`."""
    path = Path(options.out)
    if path.is_dir():
        raise IsADirectoryError(
            f"--out {str(path)!r} is a folder; name a file in it, such as {str(path / 'report.html')!r}."
        )
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {str(path)!r} is not an HTML file; let its name end in .html.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {str(path)!r}: there is no folder {str(path.parent)!r}.")
    content, left_out = page(read_runs(options.runs, least=1))
    write_text(path, content)
    for line in left_out:
        print(line)
    print(f"{path}: {len(content.encode()) / 1e6:.1f} MB, of {len(options.runs)} run{'s' * (len(options.runs) > 1)}")
    return 0
