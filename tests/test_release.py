"""A release is refused in a line unless version, changelog and checkout are ready, and pushes
nothing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = (
    "ssl_lightning",
    "methods",
    "datamodules",
    "configs",
    "setup.cfg",
    "pyproject.toml",
    "LICENSE",
    "MANIFEST.in",
)


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(root: Path, *command: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *settings, *command], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project that is ready for version 0.2.0."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    root = tmp_path / "project"
    (root / "ssl_lightning").mkdir(parents=True)
    (root / "ssl_lightning" / "__init__.py").write_text('__version__ = "0.2.0"\n')
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - 2027-01-31\n\n- All.\n")
    (root / "README.md").write_text("# It\n\n[a](docs/a.md#b), [c](https://d.e), [f](#g)\n\n![h](docs/h.png)\n")
    (root / "setup.cfg").write_text("[metadata]\nname = ssl-lightning\nversion = 0.2.0\n")
    (root / ".gitignore").write_text("dist/\n")
    git(root, "init", "-q")
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all")


@pytest.mark.parametrize(
    ("argv", "file", "text", "says"),
    [
        ([], None, "", "Give one version"),
        (["0.2.0", "0.3.0"], None, "", "Give one version"),
        (["v0.2.0"], None, "", "'v0.2.0' is not a version"),
        (["0.3.0"], None, "", "has the version 0.2.0, not 0.3.0"),
        (["0.2.0"], "CHANGELOG.md", "## [0.2.0] - unreleased\n", "it is 'unreleased'"),
        (["0.2.0"], "CHANGELOG.md", "## [0.2.01] - 2027-01-31\n", "it is missing"),
        (["0.2.0"], "ssl_lightning/__init__.py", "version = 2\n", "has the version None"),
    ],
)
def test_what_is_not_ready_is_one_line_and_tags_nothing(
    argv: list[str], file: str | None, text: str, says: str, release: ModuleType, checkout: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if file is not None:
        (checkout / file).write_text(text)
        commit(checkout)
    assert release.main(argv, checkout) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told
    assert not git(checkout, "tag") and not (checkout / "dist").exists()


def test_changes_and_a_tag_of_before_are_refused(release: ModuleType, checkout: Path) -> None:
    release.check("0.2.0", checkout)
    git(checkout, "tag", "v0.2.0")
    with pytest.raises(release.NotReady, match=r"There is a tag v0\.2\.0 already"):
        release.check("0.2.0", checkout)
    (checkout / "new.txt").touch()
    with pytest.raises(release.NotReady, match=r"not committed: new\.txt\."):
        release.check("0.2.0", checkout)
    (checkout / "dist").mkdir()
    (checkout / "dist" / "ssl_lightning-0.2.0.tar.gz").touch()
    with pytest.raises(release.NotReady, match="remove it"):
        release.build("0.2.0", checkout)


def test_links_lead_to_the_release_where_the_project_has_an_address(release: ModuleType, checkout: Path) -> None:
    text = (checkout / "README.md").read_text()
    assert release.absolute(text, release.address(checkout), "0.2.0") == text, "it has none"
    (checkout / "setup.cfg").write_text("[metadata]\nurl = https://x.y/z/\n")
    assert release.absolute(text, release.address(checkout), "0.2.0") == (
        "# It\n\n[a](https://x.y/z/blob/v0.2.0/docs/a.md#b), [c](https://d.e), [f](#g)\n\n"
        "![h](https://x.y/z/raw/v0.2.0/docs/h.png)\n"
    )


@pytest.mark.slow
def test_a_release_is_built_from_the_commit_checked_and_tagged(
    release: ModuleType, checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in PACKAGE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(source, checkout / name)
    shutil.copy(ROOT / "README.md", checkout)
    version = (ROOT / "ssl_lightning" / "__init__.py").read_text().partition('__version__ = "')[2].partition('"')[0]
    (checkout / "CHANGELOG.md").write_text(f"## [{version}] - 2027-01-31\n")
    setup = (checkout / "setup.cfg").read_text().replace("[metadata]\n", "[metadata]\nurl = https://x.y/z\n")
    (checkout / "setup.cfg").write_text(setup)
    commit(checkout)
    assert release.main([version], checkout) == 0
    assert f"twine upload dist/ssl_lightning-{version}" in capfd.readouterr().out
    assert git(checkout, "tag", "--points-at", "HEAD").strip() == f"v{version}" and not git(checkout, "status", "-s")
    (wheel,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        assert f"](https://x.y/z/blob/v{version}/docs/images.md)" in archive.read(metadata).decode()
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        assert any(name.endswith("/configs/simclr/digits.yaml") for name in files.getnames())
