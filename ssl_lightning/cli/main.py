"""The entry point of the command line. Lists, help and version do not import torch; the other
commands are LightningCLI's, in `command`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .. import __version__
from ..plugins.messages import did_you_mean
from ..plugins.registry import RegistryError
from ..run.stops.signals import listening
from .habits import COMMANDS, no_command
from .listing import LISTS, show
from .names import UsageError

DATA, EXPORT, INSPECT, REPLAY = "data", "export", "inspect", "replay"
HELP = """\
usage: ssl-lightning COMMAND [options]

  fit                                pretrain:  ssl-lightning fit --model METHOD --data DATA
  validate, test                     the probes' accuracies on that split
  predict                            index and features of each sample
  data NAME [--data.ARG VALUE]       what a data set holds, file by file, and its views; with --model
                                     METHOD, what that method is shown; no training
  export RUN --to FOLDER             the trained method in a form that another library loads
  inspect FILE                       what a checkpoint, encoder or run holds; nothing in it is run
  replay BUNDLE                      a step that was not finite, taken again: where it arises
  methods, datamodules, encoders     what is installed; --json for programs, --check imports each

  ssl-lightning fit --help                   the options of a run
  ssl-lightning fit --model.help METHOD      the arguments of a method
  ssl-lightning --version

SSL_LIGHTNING_TRACEBACK=1 shows the traceback of every error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, by default this process's.

    Returns:
        The exit code; 2: the user made a mistake, which was reported in one line; 141: the reader
        of the output, such as `head`, has closed it.

    Raises:
        Stopped: a signal came; the exit code is 128 and its number.
    """
    try:
        with listening():
            code = _main(argv)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python writes as it ends
        return 128 + 13
    return code


def _main(argv: Sequence[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    first = argv[0] if argv else "--help"
    if first in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if first == "--version":
        print(f"ssl-lightning {__version__}")
        return 0
    own: dict[str, Callable[[list[str]], int]] = {**dict.fromkeys(LISTS, partial(_list, first)), **OWN}
    if first in own and {"-h", "--help"} & set(argv[1:]):
        print(HELP, end="")
        return 0
    if first in own:
        return own[first](argv[1:])
    if not first.startswith("-") and first not in COMMANDS:
        return _complain("", no_command(first, own))
    return _run(argv)


def _list(kind: str, options: list[str]) -> int:
    known = ("--json", "--check")
    unknown = [option for option in options if option not in known]
    if unknown:
        return _complain(kind, f"There is no option {unknown[0]}.{did_you_mean(unknown[0], known)}")
    return show(kind, as_json="--json" in options, check="--check" in options)


def _data(options: list[str]) -> int:
    folder = ""
    if "--to" in options[:-1]:
        place = options.index("--to")
        folder = options[place + 1]
        options = options[:place] + options[place + 2 :]
    if options and not options[0].startswith("-"):
        options = ["--data", *options]

    def described(options: list[str], folder: str) -> str:
        from .early import check_names

        check_names(["fit", *options])
        from .data import describe

        return describe(options, folder)

    return _print(DATA, described, options, folder)


def _export(options: list[str]) -> int:
    match options:
        case [run, "--to", folder] | ["--to", folder, run] if not run.startswith("-"):
            pass
        case _:
            return _complain(
                EXPORT,
                "The run or the target folder is missing; give a run folder or a checkpoint, and a folder to write:"
                " ssl-lightning export RUN --to FOLDER.",
            )
    from .export import export

    return _print(EXPORT, export, run, folder)


def _inspect(options: list[str]) -> int:
    if len(options) != 1 or options[0].startswith("-"):
        return _complain(INSPECT, "Give one checkpoint, encoder's file or run folder: ssl-lightning inspect FILE.")
    from .inspect import inspect

    return _print(INSPECT, inspect, options[0])


def _replay(options: list[str]) -> int:
    if len(options) != 1 or options[0].startswith("-"):
        return _complain(REPLAY, "Give one folder nan-step-... of a run: ssl-lightning replay BUNDLE.")
    from .replay import replay

    reproduced = True

    def describe(folder: str) -> str:
        nonlocal reproduced
        text, reproduced = replay(folder)
        return text

    return _print(REPLAY, describe, options[0]) or int(not reproduced)


def _print(command: str, describe: Callable[..., str], *arguments: Any) -> int:
    try:
        print(describe(*arguments))
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RegistryError, UsageError) as error:
        if os.environ.get("SSL_LIGHTNING_TRACEBACK"):
            raise
        return _complain(command, str(error))
    return 0


OWN: dict[str, Callable[[list[str]], int]] = {DATA: _data, EXPORT: _export, INSPECT: _inspect, REPLAY: _replay}
"""The commands that are not LightningCLI's, besides the lists."""


def _run(argv: list[str]) -> int:
    began = time.monotonic()  # before torch is imported, which takes its time
    try:
        from .early import check_names

        check_names(argv)
        from .command import run

        run(argv, began)
    except (UsageError, RegistryError) as error:
        if os.environ.get("SSL_LIGHTNING_TRACEBACK"):
            raise
        return _complain(next((token for token in argv if token in COMMANDS), ""), str(error))
    return 0


def _complain(command: str, message: str) -> int:
    print(f"ssl-lightning {command}".rstrip() + f": error: {' '.join(message.split())}", file=sys.stderr)
    return 2
