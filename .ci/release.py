"""Makes a release: checks that it is ready, builds sdist and wheel into dist/, checks what PyPI
would show, and tags the commit. It pushes and uploads nothing; it says which commands do.

    python .ci/release.py 0.2.0
"""

from __future__ import annotations

import configparser
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)]+)\)")


class NotReady(Exception):
    """What keeps the release from being made; one line."""


def check(version: str, root: Path = ROOT) -> None:
    """Checks the version, the changelog and the state of the checkout.

    Raises:
        NotReady: one of them is not as a release needs it.
    """
    if not VERSION.fullmatch(version):
        raise NotReady(f"{version!r} is not a version such as 0.2.0 or 0.2.0rc1.")
    written = re.search(r'^__version__ = "(.*)"', (root / "ssl_lightning/__init__.py").read_text(), re.MULTILINE)
    if written is None or written[1] != version:
        raise NotReady(f"ssl_lightning/__init__.py has the version {written and written[1]}, not {version}.")
    entry = re.search(rf"^## \[{re.escape(version)}\] - (.*)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if entry is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", entry[1]):
        state = f"is {entry[1]!r}" if entry else "is missing"
        raise NotReady(f"CHANGELOG.md needs the heading '## [{version}] - YYYY-MM-DD' with the day; it {state}.")
    if changed := git(root, "status", "--porcelain"):
        raise NotReady(f"The checkout has changes that are not committed: {', '.join(changed.split()[1::2])}.")
    if git(root, "tag", "--list", f"v{version}"):
        raise NotReady(f"There is a tag v{version} already.")


def build(version: str, root: Path = ROOT) -> list[Path]:
    """Builds the commit, from a clean copy of it, into `dist/`, and checks what was built."""
    dist = root / "dist"
    if old := sorted(dist.glob(f"ssl_lightning-{version}[-.]*")):
        raise NotReady(f"dist/ has {old[0].name} already; remove it.")
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=root, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        readme = Path(folder, "README.md")
        readme.write_text(absolute(readme.read_text(), address(root), version))
        subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), folder], check=True)
    built = sorted(dist.glob(f"ssl_lightning-{version}[-.]*"))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], check=True)
    return built


def address(root: Path) -> str:
    """Where the project is published, as setup.cfg says; empty: nowhere yet."""
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    return setup["metadata"].get("url", "").rstrip("/")


def absolute(text: str, url: str, version: str) -> str:
    """A page whose links to files of the project lead to those of the release, as PyPI needs them,
    in the addresses of GitHub; without a `url` the page as it is."""
    if not url:
        return text
    return LINK.sub(lambda link: f"{link[1]}{link[2]}({url}/{'raw' if link[1] else 'blob'}/v{version}/{link[3]})", text)


def git(root: Path, *command: str) -> str:
    return subprocess.run(["git", *command], cwd=root, check=True, capture_output=True, text=True).stdout


def main(argv: list[str], root: Path = ROOT) -> int:
    try:
        if len(argv) != 1:
            raise NotReady("Give one version: python .ci/release.py 0.2.0")
        check(argv[0], root)
        files = build(argv[0], root)
    except NotReady as error:
        print(f"release: error: {error}", file=sys.stderr)
        return 2
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"release: error: nothing was tagged: {error}", file=sys.stderr)
        return 1
    git(root, "tag", "--annotate", f"v{argv[0]}", "--message", f"ssl_lightning {argv[0]}")
    if not address(root):
        print("setup.cfg names no url: on PyPI, README's links and pictures of files would lead nowhere.")
    names = " ".join(str(path.relative_to(root)) for path in files)
    print(f"Tagged v{argv[0]}. To publish it:\n  git push origin v{argv[0]}\n  python -m twine upload {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
