"""Who never imports whom: the layers of the package, read from the source by AST."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "ssl_lightning": "ssl_lightning",
    "methods": "ssl_lightning.methods",
    "datamodules": "ssl_lightning.datamodules",
}
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")


@dataclass(frozen=True)
class Rule:
    """No file among `files` (globs) names a module of `banned`, or one below it; `top`: at import
    time."""

    name: str
    files: tuple[str, ...]
    banned: tuple[str, ...]
    top: bool = False


ORDER = [
    "types",
    "distributed",
    "plugins",
    "augment",
    "nn",
    "optim",
    "data",
    "encoders",
    "run",
    "method",
    "evaluation",
    "exchange",
    "trainer",
    "cli",
    "testing",
]
"""The rooms of the package from the ground: each imports only those before it."""
IN_RUN = ["settings", "checkpoints", "loggers", "folder", "numbers", "stops"]
"""The rooms of `run`, likewise. The files beside them may import from all: they train."""
MODALITIES = ("images", "text", "sound")
EVERYWHERE = ("ssl_lightning/**/*.py", "methods/*.py", "datamodules/*.py")
RULES = [
    Rule("core knows no method", ("ssl_lightning/**/*.py",), ("ssl_lightning.methods", "methods")),
    Rule("core knows no datamodule", ("ssl_lightning/**/*.py",), ("ssl_lightning.datamodules", "datamodules")),
    Rule("methods know no datamodule", ("methods/*.py",), ("ssl_lightning.datamodules", "datamodules")),
    Rule("methods know no other method", ("methods/*.py",), ("ssl_lightning.methods", "methods")),
    Rule("methods know no modality", ("methods/*.py",), ("torchvision", "timm", "transformers")),
    Rule("datamodules know no method", ("datamodules/*.py",), ("ssl_lightning.methods", "methods")),
    Rule(
        "listing needs no torch",
        ("ssl_lightning/plugins/registry.py", "ssl_lightning/cli/main.py"),
        ("torch", "torchvision", *LIGHTNING),
        top=True,
    ),
    Rule(
        "losses gather nothing",
        ("ssl_lightning/nn/losses/*.py",),
        (*LIGHTNING, "torch.distributed", "ssl_lightning.distributed"),
    ),
    Rule(
        "the data's base knows no modality",
        ("ssl_lightning/data/*.py", "ssl_lightning/data/files/*.py"),
        tuple(f"ssl_lightning.data.{modality}" for modality in MODALITIES),
    ),
    Rule(
        "who looks at data knows no modality",
        tuple(
            f"ssl_lightning/{room}"
            for room in ("method.py", "trainer.py", "run/**/*.py", "evaluation/**/*.py", "cli/*.py")
        ),
        tuple(f"ssl_lightning.data.{modality}" for modality in MODALITIES),
    ),
    *(
        Rule(
            f"{modality} knows no other modality",
            (f"ssl_lightning/data/{modality}/*.py",),
            tuple(f"ssl_lightning.data.{other}" for other in MODALITIES if other != modality),
        )
        for modality in MODALITIES
    ),
    Rule("one Lightning", EVERYWHERE, ("lightning",)),
    Rule("no such dependency", EVERYWHERE, ("torchaudio", "kornia", "hydra", "lightly")),
    Rule("wandb only when used", EVERYWHERE, ("wandb",), top=True),
]


def module_of(path: str) -> str:
    """ "methods/simclr.py" -> "ssl_lightning.methods.simclr"; an __init__.py ends in
    ".__init__"."""
    folder, _, rest = path.partition("/")
    return f"{FOLDERS[folder]}.{rest.removesuffix('.py').replace('/', '.')}"


def named_modules(source: str, module: str, top: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, of relative ones too, and of every chain such as
    `torch.distributed.all_gather`.

    With `top` only what runs when the module is imported: not the bodies of functions, not `if
    TYPE_CHECKING`.
    """
    tree = ast.parse(source)
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and (chain := ast.unparse(node)).split(".")[0] in imported:
            yield node.lineno, chain
        elif top and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif top and isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))


@cache
def named(source: str, module: str, top: bool) -> tuple[tuple[int, str], ...]:
    """`named_modules`, once for all rules."""
    return tuple(named_modules(source, module, top))


def violations(rule: Rule, path: str, source: str) -> list[str]:
    return [
        f"{path}:{line} names {name}"
        for line, name in named(source, module_of(path), rule.top)
        if any(f"{name}.".startswith(f"{banned}.") for banned in rule.banned)
    ]


def files(patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_file_breaks_the_rule(rule: Rule) -> None:
    found = files(rule.files)
    assert found, f"{rule.name}: no file matches {rule.files}"
    assert [
        line for path in found for line in violations(rule, path.relative_to(ROOT).as_posix(), path.read_text())
    ] == []


PLANTED = [
    ("core knows no method", "ssl_lightning/method.py", "from .methods.simclr import SimCLR"),
    ("core knows no method", "ssl_lightning/evaluation/probes/knn.py", "from ...methods import simclr"),
    ("core knows no method", "ssl_lightning/__init__.py", "from . import methods"),
    ("core knows no method", "ssl_lightning/cli/main.py", "def run():\n    import ssl_lightning.methods.simclr"),
    ("core knows no datamodule", "ssl_lightning/trainer.py", "from ssl_lightning import datamodules"),
    ("core knows no datamodule", "ssl_lightning/trainer.py", "import datamodules.digits"),
    ("methods know no datamodule", "methods/byol.py", "from ..datamodules.digits import Digits"),
    ("methods know no other method", "methods/byol.py", "from .simclr import SimCLR"),
    ("methods know no other method", "methods/byol.py", "from ssl_lightning.methods.simclr import SimCLR"),
    ("methods know no modality", "methods/byol.py", "def step():\n    from torchvision.transforms import v2"),
    ("methods know no modality", "methods/byol.py", "import timm.models as models"),
    ("datamodules know no method", "datamodules/digits.py", "from ssl_lightning.methods import simclr"),
    ("listing needs no torch", "ssl_lightning/plugins/registry.py", "from torch import nn"),
    (
        "listing needs no torch",
        "ssl_lightning/cli/main.py",
        "try:\n    from pytorch_lightning.cli import LightningCLI\nexcept ImportError:\n    pass",
    ),
    ("losses gather nothing", "ssl_lightning/nn/losses/contrastive.py", "from torch import distributed"),
    (
        "losses gather nothing",
        "ssl_lightning/nn/losses/contrastive.py",
        "import torch\ndef f(x):\n    torch.distributed.all_reduce(x)",
    ),
    ("losses gather nothing", "ssl_lightning/nn/losses/contrastive.py", "from ...distributed import gather"),
    ("losses gather nothing", "ssl_lightning/nn/losses/contrastive.py", "import pytorch_lightning as pl"),
    ("the data's base knows no modality", "ssl_lightning/data/peek.py", "from .text.datamodule import TextDataModule"),
    ("the data's base knows no modality", "ssl_lightning/data/files/scan.py", "from ..sound import files"),
    (
        "who looks at data knows no modality",
        "ssl_lightning/evaluation/report.py",
        "def draw():\n    from ..data.images.datamodule import ImageDataModule",
    ),
    ("who looks at data knows no modality", "ssl_lightning/cli/defaults.py", "from ..data.sound.settings import SOUND"),
    ("images knows no other modality", "ssl_lightning/data/images/picture.py", "from ..text import files"),
    ("text knows no other modality", "ssl_lightning/data/text/files.py", "from ..sound.files import SoundFiles"),
    ("sound knows no other modality", "ssl_lightning/data/sound/files.py", "from ..images.source import PictureSource"),
    ("one Lightning", "datamodules/digits.py", "from lightning.pytorch import Trainer"),
    ("no such dependency", "ssl_lightning/augment/audio.py", "import torchaudio"),
    ("wandb only when used", "ssl_lightning/trainer.py", "import wandb"),
]


@pytest.mark.parametrize(("name", "path", "source"), PLANTED)
def test_a_planted_violation_is_found(name: str, path: str, source: str) -> None:
    (rule,) = [rule for rule in RULES if rule.name == name]
    assert violations(rule, path, source), source


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule.name for rule in RULES} == {name for name, _, _ in PLANTED}


ALLOWED = [
    (
        "core knows no method",
        "ssl_lightning/trainer.py",
        "from .method import SSLMethod\nGROUP = 'ssl_lightning.methods'",
    ),
    ("core knows no method", "ssl_lightning/plugins/registry.py", "methods = {}\nmethods.items()"),
    (
        "methods know no other method",
        "methods/byol.py",
        "from ..method import SSLMethod\nfrom ssl_lightning.nn.heads import MLP",
    ),
    (
        "listing needs no torch",
        "ssl_lightning/cli/main.py",
        "if TYPE_CHECKING:\n    import torch\ndef main():\n    import torch",
    ),
    ("losses gather nothing", "ssl_lightning/nn/losses/contrastive.py", "import torch\nfrom torch import nn"),
    ("one Lightning", "ssl_lightning/method.py", "import pytorch_lightning"),
    ("wandb only when used", "ssl_lightning/trainer.py", "def logger():\n    import wandb"),
]


@pytest.mark.parametrize(("name", "path", "source"), ALLOWED)
def test_what_is_allowed_is_not_found(name: str, path: str, source: str) -> None:
    (rule,) = [rule for rule in RULES if rule.name == name]
    assert violations(rule, path, source) == []


def test_importing_the_listing_imports_no_torch() -> None:
    """The same as the rule, for what registry and cli import in their turn."""
    code = "import sys, ssl_lightning.plugins.registry, ssl_lightning.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LEAF = "ssl_lightning.run.lightning"
"""Lightning's private parts: a file that imports nothing of ours; every room may import it."""


def room_of(name: str, within: str = "ssl_lightning", order: list[str] = ORDER) -> str | None:
    """The room of a module of a package: "ssl_lightning.data.text.files" -> "data"."""
    room = name.removeprefix(f"{within}.").split(".")[0]
    return room if name.startswith(f"{within}.") and room in order else None


def upward(path: str, source: str, within: str = "ssl_lightning", order: list[str] = ORDER) -> list[str]:
    """The imports of a file, inside functions too, that lead to a room above its own."""
    module = module_of(path)
    room = room_of(module, within, order)
    assert room is not None, f"{path} is in none of the rooms {order}"
    above = order[order.index(room) + 1 :]
    return [
        f"{path}:{line} names {name}"
        for line, name in named(source, module, False)
        if room_of(name, within, order) in above and not name.startswith(f"{LEAF}.")
    ]


ROOMS = [path for path in files(("ssl_lightning/**/*.py",)) if path != ROOT / "ssl_lightning" / "__init__.py"]


def test_each_room_imports_only_those_below_it() -> None:
    assert [line for path in ROOMS for line in upward(path.relative_to(ROOT).as_posix(), path.read_text())] == []


def test_each_room_of_run_imports_only_those_below_it() -> None:
    inside = [path for room in IN_RUN for path in files((f"ssl_lightning/run/{room}/*.py",))]
    assert [
        line
        for path in inside
        for line in upward(path.relative_to(ROOT).as_posix(), path.read_text(), "ssl_lightning.run", IN_RUN)
    ] == []
    planted = "ssl_lightning/run/checkpoints/saving.py", "def f():\n    from ..folder import metrics"
    assert upward(*planted, "ssl_lightning.run", IN_RUN) == [f"{planted[0]}:2 names ssl_lightning.run.folder.metrics"]
    rooms = {path.name for path in (ROOT / "ssl_lightning/run").iterdir() if path.is_dir()}
    assert rooms - {"__pycache__"} == set(IN_RUN)


def test_the_leaf_imports_nothing_of_ours() -> None:
    source = (ROOT / f"{LEAF.replace('.', '/')}.py").read_text()
    assert [name for _, name in named(source, LEAF, False) if name.startswith("ssl_lightning")] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ssl_lightning/types.py", "from .nn.ema import EMA"),
        ("ssl_lightning/nn/ema.py", "def f():\n    from ..data.sources import Source"),
        ("ssl_lightning/data/peek.py", "from .. import method"),
        ("ssl_lightning/run/folder/folder.py", "from ...method import SSLMethod"),
        ("ssl_lightning/evaluation/report.py", "if TYPE_CHECKING:\n    from ..trainer import Trainer"),
        ("ssl_lightning/trainer.py", "import ssl_lightning.cli.main"),
    ],
)
def test_an_import_upward_is_found(path: str, source: str) -> None:
    assert upward(path, source) == [
        f"{path}:{source.count(chr(10)) + 1} names {named(source, module_of(path), False)[-1][1]}"
    ]


def test_the_top_of_the_package_is_the_order() -> None:
    """Nothing else stands there but the lazy list of public names and the mark of its types."""
    entries = {
        path.name.removesuffix(".py") for path in (ROOT / "ssl_lightning").iterdir() if path.name != "__pycache__"
    }
    assert entries - {"__init__", "__init__.pyi", "py.typed"} == set(ORDER) and len(ORDER) <= 15


def modules_named(source: str, module: str, known: set[str]) -> set[str]:
    """The modules of the package that a module imports when it is imported itself."""
    targets = set()
    for _, name in named(source, module, True):
        while name and name not in known:
            name = name.rpartition(".")[0]
        targets |= {name} if name else set()
    return targets - {module}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Chains of modules, each of which imports the next and the last the first."""
    done: set[str] = set()
    found = []

    def walk(module: str, chain: list[str]) -> None:
        if module in chain:
            found.append(chain[chain.index(module) :])
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                walk(target, [*chain, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_no_imports_run_in_a_circle() -> None:
    sources = {module_of(path.relative_to(ROOT).as_posix()): path.read_text() for path in files(EVERYWHERE)}
    known = {module for module in sources if not module.endswith(".__init__")}
    graph = {module: modules_named(source, module, known) for module, source in sources.items() if module in known}
    assert sum(map(len, graph.values())) > 300, "the graph is nearly empty: imports are not understood"
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


HOOKS = frozenset(("as_words", "as_sounds", "vocabulary", "tokenizer", "log_mel", "sample_rate", "image_size", "wave"))
"""Attributes and settings that only data of one modality has."""
BRICKS = ("augment/", "encoders/", "nn/", "testing/", "exchange/formats/", "exchange/foreign/")
STRANGERS = [
    path
    for path in ROOMS
    if not path.relative_to(ROOT / "ssl_lightning").as_posix().startswith(BRICKS)
    and not any((ROOT / "ssl_lightning" / "data" / modality) in path.parents for modality in MODALITIES)
    and path.name != "moved.py"
]
"""The core without what is built for a modality (bricks, augmentations, encoders, formats of other
libraries, and the stand-ins of the tests' kit) and without the names of earlier versions."""


@cache
def plugin_names() -> set[str]:
    """Short names and classes of our own methods and data sets."""
    groups = ("ssl_lightning.methods", "ssl_lightning.datamodules")
    own = [point for group in groups for point in entry_points(group=group) if point.value.startswith("ssl_lightning.")]
    return {name for point in own for name in (point.name, point.attr)}


def told_apart(source: str) -> list[str]:
    """Where code asks for a modality, or names a method or a data set: in strings other than
    docstrings, and in attributes."""
    tree = ast.parse(source)
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(body := getattr(node, "body", None), list)
        for statement in body
        if isinstance(statement, ast.Expr)
    }
    names, lines = plugin_names(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words = {node.value} & HOOKS | set(re.findall(r"\w+", node.value)) & names
        elif isinstance(node, ast.Attribute):
            words = {node.attr} & HOOKS
        else:
            continue
        lines += [f"{node.lineno}: {word}" for word in sorted(words)]
    return lines


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("if hasattr(data, 'as_words'):\n    pass", "as_words"),
        ("if data.vocabulary is not None:\n    pass", "vocabulary"),
        ("raise ValueError(f'take data of sound, such as {option} tones')", "tones"),
        ("method = Registry('ssl_lightning.methods')['bert']", "bert"),
    ],
)
def test_a_question_for_the_modality_is_found(source: str, word: str) -> None:
    assert told_apart(source) == [f"1: {word}"]


def test_the_core_neither_asks_for_a_modality_nor_names_a_method_or_a_data_set() -> None:
    assert len(STRANGERS) > 60
    told = {path.relative_to(ROOT).as_posix(): told_apart(path.read_text()) for path in STRANGERS}
    assert {path: lines for path, lines in told.items() if lines} == {}


def names_used(source: str) -> set[str]:
    """Every variable, attribute and keyword: what a word in a docstring or comment is not."""
    nodes = list(ast.walk(ast.parse(source)))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        node.id for node in nodes if isinstance(node, ast.Name)
    }


UNUSED = [
    ("save_hyperparameters", EVERYWHERE),  # it would make --ckpt_path override the command line in silence
    (
        "current_epoch",
        ("ssl_lightning/data/datamodule.py", "ssl_lightning/augment/*.py", "methods/*.py", "datamodules/*.py"),
    ),  # the pass is p // n
]


@pytest.mark.parametrize(("name", "patterns"), UNUSED, ids=[name for name, _ in UNUSED])
def test_traps_are_not_used(name: str, patterns: tuple[str, ...]) -> None:
    assert name in names_used(f"def __init__(self):\n    self.trainer.{name}()")
    assert name not in names_used(f"'''Not {name}.'''  # {name}")
    assert [str(path) for path in files(patterns) if name in names_used(path.read_text())] == []


METHOD_FILES = [path for path in files(("methods/*.py",)) if path.name != "__init__.py"]


@pytest.mark.parametrize("path", METHOD_FILES, ids=lambda path: path.stem)
def test_a_method_stays_under_120_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 120


FRAME = re.compile(
    r"from |import |def |@|\"\"\"|Args:|optimizer_specs: ClassVar|super\(\)\.__init__\(encoder,"
    r" \*\*kwargs\)|[\]\[(){},]*$|\) -> None:$|self,$|\*,$|\*\*kwargs"
)
"""What every method has by the contract: imports, signatures, the heads of sections, brackets."""


def own_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not FRAME.match(line)]


def test_methods_are_no_copies_of_each_other() -> None:
    """Under a fifth of a method's lines, beyond the frame that the contract prescribes, stand in
    another method too."""
    files = {path.name: own_lines(path) for path in METHOD_FILES}
    for name, lines in files.items():
        elsewhere = {line for other, those in files.items() if other != name for line in those}
        copied = [line for line in lines if line in elsewhere]
        assert len(copied) < 0.2 * len(lines), (
            f"{name}: {len(copied)} of {len(lines)} lines stand in another method: {copied}"
        )
