"""The commands that are not LightningCLI's, with the arguments that each takes. What a command does
is imported when it is called, so that help and mistakes do not wait for torch."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple, NoReturn

from ..evaluation.protocols.known import PROTOCOLS
from ..exchange.foreign.names import NAMES as FORMATS
from ..plugins.messages import did_you_mean
from ..plugins.registry import RegistryError
from .listing import LISTS
from .names import UsageError

NAMES = (UsageError, RegistryError)
MISTAKES = (ValueError, OSError, ImportError, *NAMES)
RUN = "a run folder, a checkpoint, an encoder.safetensors, or published weights: timm:NAME, hf:NAME"


class Arguments(argparse.ArgumentParser):
    """Raises its errors, with the nearest option for a wrong one."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"unrecognized arguments: (--[^ =]+)", message):
            known = [option for option in self._option_string_actions if option.startswith("--")]
            message = f"There is no option {unknown[1]}.{did_you_mean(unknown[1], known)}".rstrip(".")
        message = message if message.endswith("?") else f"{message[:1].upper()}{message[1:]}."
        raise UsageError(f"{message} {self.prog} --help says what there is.")


class Verb(NamedTuple):
    """A command: what it does in a sentence, the function that does it (`module:name`, called with
    the parsed arguments; it prints, and returns the exit code), and its arguments."""

    summary: str
    does: str
    takes: Callable[[Arguments], object]
    data: bool = False
    """Whether it also takes `--data.NAME VALUE`, as `fit` does."""


def at_least(least: int) -> Callable[[str], int]:
    """Returns what reads a whole number that is not below `least`."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return int(text)

    return read


def _export(add: Arguments) -> None:
    add.add_argument("run", metavar="RUN", help=f"{RUN}; or the classifier.safetensors of a run")
    add.add_argument("--format", metavar="FORMAT", help="timm, torchvision, huggingface, onnx or torch")
    add.add_argument("--to", metavar="FOLDER", required=True, help="the folder to write; it must not hold anything yet")
    add.add_argument("--json", action="store_true", help="for programs")


def _import(add: Arguments) -> None:
    add.add_argument("file", metavar="FILE", help="a checkpoint or safetensors file of another library")
    add.add_argument("--to", metavar="FOLDER", required=True, help="the folder to write; it must not hold anything yet")
    formats = f"{', '.join(FORMATS)}; by default the one that fits the keys"
    add.add_argument("--format", metavar="FORMAT", help=formats)
    add.add_argument("--network", metavar="NAME", help="of several in the file, such as student, key or momentum")
    add.add_argument("--architecture", metavar="NAME", help="of timm; by default found by the shapes")
    add.add_argument("--pooling", choices=("token", "mean"), help="of a vision transformer")
    add.add_argument("--heads", type=at_least(1), metavar="N", help="of its attention, where they are not of 64 values")
    add.add_argument("--max-pool", choices=("yes", "no"), help="whether a ResNet's stem has it, where no file says so")
    add.add_argument("--image-size", dest="size", type=at_least(8), metavar="PIXELS", help="of the images to be read")
    add.add_argument("--mean", type=float, nargs="+", metavar="X", help="of each channel, in [0, 1] (ImageNet's)")
    add.add_argument("--std", type=float, nargs="+", metavar="X", help="of each channel (ImageNet's)")
    add.add_argument("--json", action="store_true", help="for programs")


def _inspect(add: Arguments) -> None:
    add.add_argument("file", metavar="FILE", help=RUN)


def _replay(add: Arguments) -> None:
    add.add_argument("bundle", metavar="BUNDLE", help="a folder nan-step-... of a run")


def _applied(add: Arguments, run: str, out: str) -> None:
    """The arguments of a command that applies a run to data."""
    add.add_argument("run", metavar="RUN", help=run)
    add.add_argument("data", metavar="DATA", help="a folder, a file, a list of files, or the name of a data set")
    add.add_argument("--out", metavar="FILE", required=True, help=out)
    add.add_argument("--split", help="that split alone: train, val, test or unlabelled")
    unreadable = add.add_argument("--unreadable", choices=("skip", "raise"), default="skip")
    unreadable.help = "whether to leave out files that cannot be read, or to stop"
    add.add_argument("--batch-size", type=at_least(1), default=256, metavar="N", help="samples at a time")
    add.add_argument("--device", default="auto", help="cpu, cuda, ...")
    add.add_argument("--json", action="store_true", help="for programs")


def _embed(add: Arguments) -> None:
    _applied(add, RUN, "a .parquet, .npz or .csv")
    add.add_argument("--layers", action="store_true", help="also the vector of each layer")
    add.add_argument("--tokens", action="store_true", help="also the vector of each patch, frame or token")
    add.add_argument("--normalise", action="store_true", help="vectors of length 1")
    add.add_argument("--processes", type=at_least(1), default=1, metavar="N", help="that share the work and the GPUs")


def _classify(add: Arguments) -> None:
    _applied(add, "a run that learned from labels, or its classifier.safetensors", "a .csv or .parquet")


def _neighbours(add: Arguments) -> None:
    add.add_argument("run", metavar="RUN", help=RUN)
    add.add_argument("--among", metavar="FILE", required=True, help="what embed wrote with this run")
    add.add_argument(
        "--query", metavar="FILE", nargs="+", help="whose nearest are listed; of texts, the text itself too"
    )
    add.add_argument(
        "--duplicates", metavar="COSINE", type=float, help="list all pairs that are as alike, such as 0.95"
    )
    add.add_argument("--count", type=at_least(1), default=8, metavar="K", help="neighbours of each query")
    add.add_argument("--to", metavar="FILE", help="a .png: a contact sheet")
    add.add_argument("--json", action="store_true", help="for programs")


def _labels(add: Arguments) -> None:
    add.add_argument("run", metavar="RUN", help=RUN)
    add.add_argument(
        "--data", metavar="DATA", required=True, help="labelled: a folder, a list, or the name of a data set"
    )
    add.add_argument("--minutes", type=float, default=30.0, help="for all of it; what is not done by then is left out")
    add.add_argument("--draws", type=at_least(1), default=5, metavar="N", help="of labels, at most")
    add.add_argument("--train-samples", type=at_least(1), default=10_000, metavar="N", help="that stand for all labels")
    add.add_argument("--test-samples", type=at_least(1), default=2_000, metavar="N", help="that are judged")
    add.add_argument("--second-step", metavar="METHOD", help="the method that fine-tunes")
    add.add_argument("--to", metavar="FOLDER", help="of labels-DATA.json and .png; by default that of the run")
    add.add_argument("--device", default="auto", help="cpu, cuda, ...")
    add.add_argument("--json", action="store_true", help="for programs")


def _probe(add: Arguments) -> None:
    add.add_argument("run", metavar="RUN", help=RUN)
    add.add_argument("--data", metavar="DATA", required=True, help="a folder, a list, or the name of a data set")
    add.add_argument("--by", metavar="NAME,...", required=True, help=f"protocols: {', '.join(PROTOCOLS)}")
    add.add_argument(
        "--rows", metavar="NAME,...", help="pretrained, untrained, published, raw; by default all there are"
    )
    add.add_argument("--targets", metavar="FILE", help="a csv, tsv, jsonl or parquet: path, and numbers or labels")
    add.add_argument("--masks", metavar="FOLDER", help="a .png of class ids for each image, under its relative path")
    add.add_argument("--tags", metavar="FILE", help="sentences to learn from: a word and its tag on each line (CoNLL)")
    add.add_argument("--tags-test", metavar="FILE", help="sentences to judge on, likewise")
    add.add_argument("--frames", metavar="FILE", help="a list: path, start and end in seconds, label")
    add.add_argument(
        "--set", metavar="PROTOCOL.NAME=VALUE", action="append", default=[], help="a setting, such as knn.k=200"
    )
    add.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of draws of labels, and of fits")
    add.add_argument("--train-samples", type=at_least(2), default=60_000, metavar="N", help="to learn from, at most")
    add.add_argument("--test-samples", type=at_least(1), default=20_000, metavar="N", help="that are judged, at most")
    add.add_argument("--to", metavar="FILE", help="a .json; by default probe-DATA.json in the folder of the run")
    add.add_argument("--device", default="auto", help="cpu, cuda, ...")
    add.add_argument("--json", action="store_true", help="for programs")


def _compare(add: Arguments) -> None:
    add.add_argument("runs", metavar="RUN", nargs="+", help="run folders, two or more; the first is compared with")
    add.add_argument("--row", metavar="ROW", action="append", help="of the closing table, in place of pretrained")
    add.add_argument("--json", action="store_true", help="for programs")


def _report(add: Arguments) -> None:
    add.add_argument("runs", metavar="RUN", nargs="+", help="run folders; the first is compared with")
    add.add_argument("--out", metavar="FILE", required=True, help="the .html file to write; an older one is replaced")


def _list(add: Arguments) -> None:
    add.add_argument("--json", action="store_true", help="for programs")
    add.add_argument("--check", action="store_true", help="import each, and name those that are broken")


def _configs(add: Arguments) -> None:
    add.add_argument("--json", action="store_true", help="for programs, with the command that runs each")


def _runs(add: Arguments) -> None:
    add.add_argument("root", metavar="ROOT", nargs="?", default="runs", help="the folder under which they are (runs)")
    add.add_argument("--json", action="store_true", help="for programs, with sizes in bytes")
    add.add_argument("--prune", action="store_true", help="remove checkpoints that no run needs, after asking")
    add.add_argument("--yes", action="store_true", help="do not ask")


OWN = {
    "embed": Verb("files, or a data set, to vectors by a run's encoder", "embed:main", _embed, data=True),
    "classify": Verb("files, or a data set, to classes by a fine-tuned run", "classify:main", _classify, data=True),
    "neighbours": Verb("the nearest of a file among embedded ones; near-duplicates", "neighbours:main", _neighbours),
    "labels": Verb(
        "accuracy against the number of labels, with pretraining and without", "labels:main", _labels, data=True
    ),
    "probe": Verb("protocols on an encoder's features and on its baselines'", "probe:main", _probe, data=True),
    "export": Verb("an encoder in a form that another library loads, checked there", "export:main", _export),
    "import": Verb("a checkpoint of another library to an encoder that every command takes", "importing:main", _import),
    "inspect": Verb("what a checkpoint, encoder or run holds; nothing in it is run", "inspect:main", _inspect),
    "compare": Verb("runs side by side: settings, closing tables, last values", "compare:main", _compare),
    "report": Verb("runs as one HTML file: tables, curves, pictures, sounds, maps", "report:main", _report),
    "replay": Verb("a step that was not finite, taken again: where it arises", "replay:main", _replay),
    "runs": Verb("the runs under a folder: state, step, best probe, size", "runs:main", _runs),
    "configs": Verb(
        "the configs that ship, for --config NAME: what each needs, and its score", "configs:main", _configs
    ),
    **{kind: Verb(f"the {kind} that are installed", "listing:main", _list) for kind in LISTS},
}
"""The commands by name, in the order of the help."""


def parser_of(name: str) -> Arguments:
    """The parser of a command's arguments."""
    verb = OWN[name]
    parser = Arguments(
        f"ssl-lightning {name}", description=f"{verb.summary[0].upper()}{verb.summary[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(command=name)
    verb.takes(parser)
    return parser


def call(name: str, argv: Iterable[str]) -> int:
    """Does what a command says, and returns the exit code."""
    with mistakes(name) as told:
        of_data, rest = _of_data(argv) if OWN[name].data else ([], list(argv))
        options = parser_of(name).parse_args(rest)
        options.data_options = of_data
        module, _, function = OWN[name].does.partition(":")
        told.code = getattr(import_module(f".{module}", __package__), function)(options)
    return told.code


def _of_data(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """The tokens of options `--data.NAME VALUE`, and the others."""
    of_data: list[str] = []
    rest: list[str] = []
    waits = False
    for token in argv:
        mine = waits or token.startswith("--data.")
        (of_data if mine else rest).append(token)
        waits = mine and not waits and "=" not in token
    return of_data, rest


class Told:
    """The exit code of a command."""

    code = 0


@contextmanager
def mistakes(command: str, kinds: tuple[type[Exception], ...] = MISTAKES) -> Iterator[Told]:
    """Tells errors of these kinds in one line, as mistakes of the user's, with the exit code 2."""
    told = Told()
    try:
        yield told
    except BrokenPipeError:
        raise
    except kinds as error:
        if os.environ.get("SSL_LIGHTNING_TRACEBACK"):
            raise
        told.code = complain(command, str(error))


def complain(command: str, message: str) -> int:
    """Prints a message as one line, and returns the exit code of a mistake."""
    print(f"ssl-lightning {command}".rstrip() + f": error: {' '.join(message.split())}", file=sys.stderr)
    return 2
