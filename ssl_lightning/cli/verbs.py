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

from ..plugins.messages import did_you_mean
from ..plugins.registry import RegistryError
from .listing import LISTS
from .names import UsageError

NAMES = (UsageError, RegistryError)
MISTAKES = (ValueError, OSError, ImportError, *NAMES)
RUN = "a run folder, a checkpoint or an encoder.safetensors"


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


def _export(add: Arguments) -> None:
    add.add_argument("run", metavar="RUN", help="a run folder, whose newest checkpoint is read, or a checkpoint")
    add.add_argument("--to", metavar="FOLDER", required=True, help="the folder to write; it must not hold anything yet")


def _inspect(add: Arguments) -> None:
    add.add_argument("file", metavar="FILE", help=RUN)


def _replay(add: Arguments) -> None:
    add.add_argument("bundle", metavar="BUNDLE", help="a folder nan-step-... of a run")


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


OWN = {
    "export": Verb("the trained method in a form that another library loads", "export:main", _export),
    "inspect": Verb("what a checkpoint, encoder or run holds; nothing in it is run", "inspect:main", _inspect),
    "compare": Verb("runs side by side: settings, closing tables, last values", "compare:main", _compare),
    "report": Verb("runs as one HTML file: tables, curves, pictures, sounds, maps", "report:main", _report),
    "replay": Verb("a step that was not finite, taken again: where it arises", "replay:main", _replay),
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
        options = parser_of(name).parse_args(list(argv))
        module, _, function = OWN[name].does.partition(":")
        told.code = getattr(import_module(f".{module}", __package__), function)(options)
    return told.code


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
