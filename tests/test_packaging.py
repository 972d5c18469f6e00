"""What is installed: the wheel's files against the source tree, and setup.cfg against its
folders."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {
    "ssl_lightning": "ssl_lightning",
    "methods": "ssl_lightning/methods",
    "datamodules": "ssl_lightning/datamodules",
    "configs": "ssl_lightning/configs",
}
DATA = {"ssl_lightning/py.typed", "ssl_lightning/__init__.pyi"}


def configs() -> set[str]:
    """Every config of the source tree, by its place in the wheel."""
    return {f"ssl_lightning/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}


def sources() -> set[str]:
    """Every .py of the source tree, and what a report is styled by, by its place in the wheel."""
    return {
        f"{home}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, home in HOMES.items()
        for kind in ("py", "css", "js")
        for path in (ROOT / folder).rglob(f"*.{kind}")
    }


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters="=", comment_prefixes="#")
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist of a clean copy, in which an old build/ would leak deleted files,
    and the wheel that is built from that sdist."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in HOMES:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "benchmarks"):  # must stay out
        (tree / name).mkdir()
        (tree / name / "test_stray.py").touch()
    for path in ROOT.iterdir():
        if path.suffix in (".cfg", ".toml", ".md", ".in") or path.name == "LICENSE":
            shutil.copy(path, tree)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tree / "dist"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tree / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_module_and_config_in_its_place_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == sources() | configs() | DATA


def test_the_sdist_holds_what_the_wheel_is_built_from_and_no_tests(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    homes = {home: folder for folder, home in HOMES.items() if folder != "ssl_lightning"}
    for name in sources() | configs() | DATA:
        home = next((home for home in homes if name.startswith(f"{home}/")), None)
        assert (f"{homes[home]}{name.removeprefix(home)}" if home else name) in names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "setup.cfg", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_wheel_carries_the_licence_and_every_entry_point(
    wheel: zipfile.ZipFile, setup: configparser.ConfigParser
) -> None:
    (licence,) = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    (path,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    written = configparser.ConfigParser(delimiters="=")
    written.read_string(wheel.read(path).decode())
    declared = setup["options.entry_points"]
    assert {group: set(written[group].items()) for group in written.sections()} == {
        group: {tuple(part.strip() for part in line.split("=")) for line in lines.strip().splitlines()}
        for group, lines in declared.items()
    }


def test_every_folder_with_modules_is_a_listed_package(setup: configparser.ConfigParser) -> None:
    listed = setup["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    assert set(listed) == {name.rpartition("/")[0].replace("/", ".") for name in sources()}
    assert {name for name in sources() if name.endswith("/__init__.py")} == {
        f"{name.replace('.', '/')}/__init__.py" for name in listed
    }


def test_every_entry_point_leads_to_a_class_of_the_tree(setup: configparser.ConfigParser) -> None:
    """Read from the source: importing is what the conformance tests do."""
    for group, lines in setup["options.entry_points"].items():
        for line in lines.strip().splitlines():
            module, _, name = line.partition("=")[2].strip().partition(":")
            folder = next(
                folder for folder, home in reversed(HOMES.items()) if module.startswith(home.replace("/", ".") + ".")
            )
            path = (
                ROOT / folder / (module.removeprefix(HOMES[folder].replace("/", ".") + ".").replace(".", "/") + ".py")
            )
            assert path.is_file(), f"{group}: {line.strip()}: {path} is missing"
            assert f"class {name}" in path.read_text() or f"def {name}" in path.read_text(), f"{group}: {line.strip()}"


def test_a_machine_without_a_registry_is_given_every_requirement(setup: configparser.ConfigParser) -> None:
    """`benchmarks/gpu.sh` says of each whether the machine has it or it is brought along; wandb is
    imported only where it is chosen."""
    lists = re.findall(r'^(?:there|needed)="(.*)"', (ROOT / "benchmarks" / "gpu.sh").read_text(), re.MULTILINE)
    named = set(" ".join(lists).split()) - {"$there"}
    lines = [line for line in setup["options"]["install_requires"].splitlines() if line and not line.startswith("#")]
    required = {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines}
    assert required - {"wandb"} <= named
