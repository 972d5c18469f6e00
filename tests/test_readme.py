"""What the README shows is run: commands with a few steps in place of many, Python as written, the
files of a package as files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|toml)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
FILES = {code.splitlines()[0].removeprefix("# "): code for _, code in BLOCKS if re.match(r"# \S+/\S+\n", code)}
PYTHON = [code for kind, code in BLOCKS if kind == "python" and code not in FILES.values()]
LINES = [line.partition("  #")[0].strip() for kind, code in BLOCKS if kind == "bash" for line in code.splitlines()]
COMMANDS = [command.strip() for line in LINES for command in line.split("&&")]
MAIN = "ssl-lightning fit --config configs/simclr/digits.yaml"
TEXT = "ssl-lightning fit --config configs/bert/python_docs.yaml"
SOUND = "ssl-lightning fit --model wav2vec2 --data audio_folder --data.root recordings"
RUNS = {"run": "simclr-digits", "text": "bert-python_docs"}
WORDS = [f"word{number}" for number in range(144)]
LISTS = ("methods", "datamodules", "encoders")
PARSED_ONLY = ("fashion_mnist", "devices", "wandb", "spoken_digits")
"""In a command: what needs a download, starts processes, or may talk to a server."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configs, the README's own package installed, its data, and one run of the
    main job, cut short."""
    home = tmp_path_factory.mktemp("home")
    (home / "configs").symlink_to(ROOT / "configs")
    for name, text in FILES.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(home / "site"),
    ]
    subprocess.run([*pip, str(home / "my_ssl")], check=True, timeout=120)
    (home / "my_data").mkdir()
    for split, samples in (("train", 64), ("test", 40)):
        labels = torch.arange(samples) % 4
        torch.save(
            ((torch.rand(samples, 3, 16, 16) * 128 + 32 * labels.view(-1, 1, 1, 1)).byte(), labels),
            home / "my_data" / f"{split}.pt",
        )
    for folder, shape, dtype in (("photos", (40, 50, 3), "uint8"), ("animals/ant", (40, 40, 3), "uint8"),
                                 ("animals/bee", (50, 40, 3), "uint8"), ("scans", (48, 48), "uint16")):  # fmt: skip
        (home / folder).mkdir(parents=True)
        for number in range(6 if "animals" in folder else 16):
            pixels = np.random.default_rng(number).integers(0, np.iinfo(dtype).max, shape, dtype)
            Image.fromarray(pixels).save(home / folder / f"{number}.png")
    for number in range(40):
        wave = np.random.default_rng(number).normal(0, 0.1, 8000 + 400 * number)
        (home / "recordings" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(home / "recordings" / "ab"[number % 2] / f"{number // 2}.wav", wave, 16_000)
    (home / "texts").mkdir()
    for number in range(3):
        (home / "texts" / f"{number}.txt").write_text("\n\n".join(f"{word} says {number} and more" for word in WORDS))
    (home / "labelled.csv").write_text(
        "label,text\n" + "".join(f"{word},a {word} is no {word} {n}\n" for word in WORDS[:4] for n in range(40))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("SSL_LIGHTNING_CACHE", str(home / "cache"))
        patch.syspath_prepend(home / "site")
        few = ["--report.draws", "1", "--report.train_samples", "300", "--report.test_samples", "100"]
        for command in (MAIN, TEXT, SOUND):
            assert main([*shortened(command, home), "--report.enabled", "true", *few]) == 0
        yield home


def shortened(command: str, home: Path) -> list[str]:
    """The arguments of a command of the README, with its variables filled in and two steps, without
    a report."""
    runs = {name: max(home.glob(f"runs/{folder}/*"), default=Path()) for name, folder in RUNS.items()}
    arguments = shlex.split(
        command.replace("$run", str(runs["run"]))
        .replace("$text", str(runs["text"]))
        .replace("root: animals", "root: animals, image_size: 32")
    )[1:]
    if arguments[0] in (*LISTS, "export") or "--print_config" in command or ".help" in command:
        return arguments
    if any(word in command for word in PARSED_ONLY):
        return [*arguments, "--print_config"]
    if "wav2vec2" in command:
        arguments += ["--model.encoder.size", "tiny"]
    few = ["--trainer.max_steps", "2", "--report.enabled", "false"] if arguments[0] == "fit" else []
    small = (
        ["--data.batch_size", "16"]
        if any(name in command for name in ("my_data", "image_folder", "text_files", "audio_folder"))
        else []
    )
    small += ["--data.image_size", "32", "--data.workers", "0"] if "image_folder" in command else []
    return [*arguments, *few, *small, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if command.startswith("ssl-lightning") and command not in (MAIN, TEXT, SOUND)],
)
def test_a_command_runs(command: str, home: Path) -> None:
    try:
        assert main(shortened(command, home)) == 0
    except SystemExit as end:  # of --print_config and --help
        assert not end.code


def test_every_other_command_is_known() -> None:
    others = {command for command in COMMANDS if not command.startswith("ssl-lightning")}
    assert others == {
        "pip install -e .",
        "pip install -e '.[test]'",
        "pytest",
        *(f"{name}=$(ls -td runs/{folder}/* | head -n 1)" for name, folder in RUNS.items()),
        "pip install -e my_ssl",
    }


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.strip().splitlines()[-1])
def test_python_runs(code: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "close", lambda *args: None)  # the main job has written a report
    exec(compile(code.replace("max_epochs=80", "max_epochs=1"), "README.md", "exec"), {"__name__": "readme"})


def test_the_package_of_a_method_takes_fewer_than_60_lines() -> None:
    method = (code for name, code in FILES.items() if "data" not in name)
    assert len(FILES) == 3 and sum(len(code.splitlines()) for code in method) < 60


def test_links_and_pictures_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
        assert (ROOT / link).stat().st_size < 150_000, link


def test_every_config_names_its_own_command_and_what_it_costs() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        header = [line for line in path.read_text().splitlines() if line.startswith("#")]
        assert f"ssl-lightning fit --config {path.relative_to(ROOT)}" in header[0]
        for word in ("cores", "minutes", "%"):
            assert any(word in line for line in header), f"{path.name} does not state {word}"
