"""What the README and the pages in docs/ show is run: commands with a few steps in place of many,
Python as written, the files of a package as files. Links lead somewhere.

The README's commands run by default. Those of docs/ that train are parsed by default, and run with
`-m slow`.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from ssl_lightning import SSLMethod
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.report import Report
from ssl_lightning.testing import check_method

ROOT = Path(__file__).parents[1]
README = "README.md"
FOLDERS = ("docs/*.md", "docs/*/*.md")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / README, *(path for folder in FOLDERS for path in ROOT.glob(folder)))
}
LINKED = [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "benchmarks/RESULTS.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: str
    kind: str
    code: str


BLOCKS = [Block(page, *found) for page, text in PAGES.items() for found in FENCE.findall(text)]
FILES = {
    block.code.splitlines()[0].removeprefix("# "): block.code
    for block in BLOCKS
    if block.kind in ("python", "toml") and re.match(r"# \S+/\S+\n", block.code)
}
PYTHON = {block.code: block for block in BLOCKS if block.kind == "python" and block.code not in FILES.values()}
PAGE_OF: dict[str, str] = {}
"""The first page with each command of the shell."""
for block in BLOCKS:
    for line in block.code.splitlines() if block.kind == "bash" else ():
        for command in line.partition("  #")[0].split("&&"):
            PAGE_OF.setdefault(command.strip(), block.page)
COMMANDS = [command for command in PAGE_OF if command.startswith("ssl-lightning")]

RUNS = {
    "simclr-digits": "ssl-lightning fit --config simclr/digits",
    "bert-python_docs": "ssl-lightning fit --config bert/python_docs",
    "linear_probe-digits": "ssl-lightning fit --model linear_probe --data digits --model.checkpoint $run",
    "mae-digits": "ssl-lightning fit --model mae --data digits",
    "wav2vec2-audio_folder-recordings": "ssl-lightning fit --model wav2vec2 --data audio_folder --data.root recordings",
    "simclr-image_folder-photos": "ssl-lightning fit --model simclr --data image_folder --data.root photos"
    " --data.image_size 32 --model.encoder conv --minutes 5",
    "bert-text_files-texts": "ssl-lightning fit --model bert --data text_files --data.path texts"
    " --model.encoder.size mini --minutes 3",
    "simclr-audio_folder-recordings": "ssl-lightning fit --model simclr --data audio_folder --data.root recordings"
    " --data.seconds 0.64 --minutes 3",
}
"""The runs that other blocks use, with all that a run leaves."""
VARIABLES = {
    "$run": "simclr-digits",
    "$text": "bert-python_docs",
    "$classifier": "linear_probe-digits",
    "$vit": "mae-digits",
    "$photos": "simclr-image_folder-photos",
    "$bert": "bert-text_files-texts",
    "$wave": "wav2vec2-audio_folder-recordings",
    "$sound": "simclr-audio_folder-recordings",
}
EXPORT = "ssl-lightning export $text --format huggingface --to my_bert"
IMPORT = "ssl-lightning import dino.pth --to my_dino"
EMBED = {
    "animals.parquet": "ssl-lightning embed $run animals --out animals.parquet",
    "photos.parquet": "ssl-lightning embed $photos photos --out photos.parquet",
    "texts.parquet": "ssl-lightning embed $bert texts --out texts.parquet",
}
"""What others search."""
PACKAGE = ("my_simsiam", "my_images", "my_rows", "my_mlp")
WORDS = [f"word{number}" for number in range(144)]
PARSED_ONLY = ("fashion_mnist", "devices", "wandb", "spoken_digits")
"""In a command: what needs a download, starts processes, or may talk to a server."""
TRAINS = ("fit", "validate", "test", "predict")


def parsed_only(command: str) -> bool:
    return any(word in command for word in PARSED_ONLY)


def light(command: str) -> bool:
    """Whether a command takes no training, nor a run: lists, help, the complete config."""
    takes_a_run = (*TRAINS, "export", "compare", "embed", "classify", "neighbours", "report", "probe")
    return command.split()[1] not in takes_a_run or "--print_config" in command or "help" in command


class Home:
    """A folder with some data, and, once they are asked for, the runs and the package
    of the pages."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.done: set[str] = set()
        write_data(folder)

    def prepare(self, code: str) -> None:
        """Makes what a command or a block of Python takes for granted."""
        if any(name in code for name in PACKAGE):
            self.install()
        named = [folder for variable, folder in VARIABLES.items() if variable in code]
        for folder in (*named, *(folder for folder in RUNS if f'"runs/{folder}"' in code)):
            self.run(RUNS[folder])
        if '"my_bert"' in code:
            self.run(EXPORT)
        if "my_dino" in code and code != IMPORT:
            self.run(IMPORT)
        for file in EMBED:
            if f"--among {file}" in code:
                self.run(EMBED[file])

    def install(self) -> None:
        """Installs the package of the pages, as `pip install` would into an environment."""
        if "package" in self.done:
            return
        for name, text in FILES.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)
        options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(self.folder / "site")]
        pip = [sys.executable, "-m", "pip", "install", *options, str(self.folder / "my_ssl")]
        subprocess.run(pip, check=True, timeout=120)
        self.patch.syspath_prepend(self.folder / "site")
        self.done.add("package")

    def run(self, command: str) -> None:
        """Runs a command to its end, but each of `RUNS`, `EXPORT`, `IMPORT` and `EMBED` only
        once."""
        if command in self.done:
            return
        self.prepare(command.replace(RUNS.get(command, "\0"), ""))
        self.call(self.short(command))
        if command in (*RUNS.values(), EXPORT, IMPORT, *EMBED.values()):
            self.done.add(command)

    def parse(self, command: str) -> None:
        """Parses a command as a run would, and stops before anything is built."""
        self.call([*self.arguments(command), "--print_config"])

    def call(self, arguments: list[str]) -> None:
        try:
            assert main(arguments) == 0
        except SystemExit as end:  # of --print_config and --help
            assert not end.code

    def arguments(self, command: str) -> list[str]:
        """The arguments of a command, its variables filled in."""
        for variable, folder in VARIABLES.items():
            run = max(self.folder.glob(f"runs/{folder}/*"), default=Path("runs", folder, "none"))
            command = command.replace(variable, str(run))
        return shlex.split(command)[1:]

    def short(self, command: str) -> list[str]:
        """The arguments of a command, with two steps and small samples where it trains."""
        command = re.sub(r" --minutes \d+", "", command)
        arguments = self.arguments(command.replace("root: animals", "root: animals, image_size: 32"))
        if light(command) or arguments[0] not in TRAINS:
            return arguments
        if parsed_only(command):
            return [*arguments, "--print_config"]
        if arguments[0] == "fit":
            arguments += ["--trainer.max_steps", "2", "--report.enabled", str(command in RUNS.values()).lower()]
            arguments += ["--report.draws", "1", "--report.train_samples", "300", "--report.test_samples", "100"]
        if any(name in command for name in ("my_data", "my_rows", "image_folder", "text_files", "audio_folder")):
            arguments += ["--data.batch_size", "16"]
        if "image_folder" in command:
            arguments += ["--data.image_size", "32", "--data.workers", "0"]
        if "wav2vec2" in command:
            arguments += ["--model.encoder.size", "tiny"]
        return [*arguments, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def write_data(folder: Path) -> None:
    """The files that the pages speak of: photos, texts, recordings, tensors, a checkpoint of
    another library."""
    random = np.random.default_rng(0)
    vit = VisionTransformer(32, 8, embed_dim=64, depth=1, num_heads=1, num_classes=0)
    state = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    torch.save({"student": state, "teacher": dict(state)}, folder / "dino.pth")
    (folder / "runs" / "simclr-digits").mkdir(parents=True)
    for name, sample in (("my_data", (3, 16, 16)), ("my_rows", (8,))):
        (folder / name).mkdir()
        for split, samples in (("train", 64), ("test", 40)):
            labels = torch.arange(samples) % 4
            x = torch.rand(samples, *sample) + labels.view(-1, *(1 for _ in sample)) / 4
            torch.save(((128 * x).byte() if name == "my_data" else x, labels), folder / name / f"{split}.pt")
    for name, shape, dtype, count in (
        ("photos", (40, 50, 3), "uint8", 16),
        ("animals/ant", (40, 40, 3), "uint8", 6),
        ("animals/bee", (50, 40, 3), "uint8", 6),
        ("scans", (48, 48), "uint16", 16),
    ):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, np.iinfo(dtype).max, shape, dtype)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    for number in range(40):
        speaker = folder / "recordings" / "ab"[number % 2]
        speaker.mkdir(parents=True, exist_ok=True)
        soundfile.write(speaker / f"{number // 2}.wav", random.normal(0, 0.1, 8000 + 400 * number), 16_000)
    (folder / "texts").mkdir()
    for number in range(3):
        text = "\n\n".join(f"{word} says {number} and more" for word in WORDS)
        (folder / "texts" / f"{number}.txt").write_text(text)
    targets = [
        f"{split},{number},{number % 7 / 2},{number % 2}" for split in ("train", "test") for number in range(300)
    ]
    (folder / "targets.csv").write_text("\n".join(["split,index,size,round", *targets]))
    for name in ("ant", "bee"):
        (folder / "masks" / name).mkdir(parents=True)
        for number in range(6):
            mask = np.repeat([[0], [1]], 20 if name == "ant" else 25, axis=0).repeat(40, axis=1)
            Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / name / f"{number}.png")
    tagged = "".join(f"{word} B-WORD\nsays O\n{word} B-WORD\nmore I-WORD\n\n" for word in WORDS[:40])
    for name in ("train.conll", "test.conll"):
        (folder / name).write_text(tagged)
    spans = [f"{who}/{number}.wav,{start},{start + 0.2},{label}" for who in "ab" for number in range(20)
             for start, label in ((0, "first"), (0.25, "then"))]  # fmt: skip
    (folder / "frames.csv").write_text("\n".join(["path,start,end,label", *spans]))
    rows = [f"{word},a {word} is not a {word} {number}" for word in WORDS[:4] for number in range(40)]
    (folder / "labelled.csv").write_text("\n".join(["label,text", *rows, ""]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SSL_LIGHTNING_CACHE", str(folder / "cache"))
        yield Home(folder, patch)


def is_slow(page: str, code: str) -> bool:
    """Whether a block is left to `-m slow`: those of docs/ that train."""
    return page != README and any(word in code for word in ("fit(", "check_", '"runs/bert', '"runs/wav', "my_bert"))


@pytest.mark.parametrize("command", [each for each in COMMANDS if light(each) or PAGE_OF[each] == README], ids=str)
def test_a_command_runs(command: str, home: Home) -> None:
    home.prepare(command)
    home.run(command)


TRAINING = [each for each in COMMANDS if PAGE_OF[each] != README and not light(each)]


@pytest.mark.by_default(8)
@pytest.mark.parametrize(
    "command", [each for each in TRAINING if each.split()[1] in TRAINS and "$" not in each], ids=str
)
def test_a_command_of_the_docs_is_understood(command: str, home: Home) -> None:
    home.prepare(command)
    home.parse(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in TRAINING if not parsed_only(each)], ids=str)
def test_a_command_of_the_docs_runs(command: str, home: Home) -> None:
    home.prepare(command)
    home.run(command)


def test_every_other_command_is_known() -> None:
    assert set(PAGE_OF) - set(COMMANDS) == {
        "pip install -e .",
        "pip install -e '.[test]'",
        "pytest",
        "pip install -e my_ssl",
        *(f"{name[1:]}=$(ls -td runs/{folder}/* | head -n 1)" for name, folder in VARIABLES.items()),
    }


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=[pytest.mark.slow] * is_slow(block.page, code), id=f"{block.page}, {number}")
        for number, (code, block) in enumerate(PYTHON.items())
    ],
)
def test_python_runs(code: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.prepare(code)
    monkeypatch.setattr(Report, "close", lambda *args: None)  # the main run has written a report
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    exec(compile(code.replace("max_epochs=80", "max_epochs=1"), PYTHON[code].page, "exec"), vars(module))
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, SSLMethod) and value.__module__ == "page":
            check_method(value)


def test_the_package_of_a_method_takes_fewer_than_60_lines() -> None:
    lines = [FILES[f"my_ssl/{name}"].splitlines() for name in ("pyproject.toml", "my_method.py")]
    assert sum(map(len, lines)) < 60


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = prose((ROOT / page).read_text())
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page}: {link}"


def linked_from(page: str) -> set[str]:
    """The files that a page links to, from the repository's root."""
    links = re.findall(r"\]\(([^)#]+)", prose(PAGES[page]))
    targets = [posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in links]
    return {target for target in targets if "://" not in target}


def test_every_page_and_picture_is_shown() -> None:
    """Every page of docs/ is linked from the README, and every page below from one of those; every
    picture stands on a page, small and with a text in its place."""
    linked = linked_from(README)
    assert {page for page in PAGES if page.count("/") == 1} <= linked
    assert set(PAGES) - {README} <= linked.union(*(linked_from(page) for page in linked & set(PAGES)))
    shown = [
        ((ROOT / page).parent / link, alternative)
        for page, text in PAGES.items()
        for alternative, link in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    ]
    assert {path.resolve() for path, _ in shown} == set((ROOT / "docs").rglob("*.png"))
    for path, alternative in shown:
        assert len(alternative) > 40 and path.stat().st_size < 150_000, path


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_at_most_100_characters(page: str) -> None:
    """But for tables, pictures and commands."""
    lines = prose(PAGES[page]).splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith(("|", "!["))] == []


def test_every_config_names_its_own_command_and_what_it_costs() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        command, needs, score, *_ = path.read_text().splitlines()
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        assert re.match(rf"# ssl-lightning fit --config {name}( |$)", command)
        assert re.match("# needs: .*minutes.* cores", needs) and re.match("# score: .*%", score), path
