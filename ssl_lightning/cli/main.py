"""The entry point of the command line. Lists, help and version do not import torch; the other
commands are LightningCLI's, in `command`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from .. import __version__
from ..run.stops.signals import listening
from .habits import COMMANDS, no_command
from .verbs import NAMES, OWN, call, complain, mistakes

DATA = "data"
HELP = """\
usage: ssl-lightning COMMAND [options]

  fit                                pretrain:  ssl-lightning fit --model METHOD --data DATA
  validate, test                     the probes' accuracies on that split
  predict                            index and features of each sample
  data NAME [--data.ARG VALUE]       what a data set holds, file by file, and its views; with --model
                                     METHOD, what that method is shown; no training
{own}

  ssl-lightning fit --help                   the options of a run
  ssl-lightning fit --model.help METHOD      the arguments of a method
  ssl-lightning export --help                the arguments of another command
  ssl-lightning --version

SSL_LIGHTNING_TRACEBACK=1 shows the traceback of every error.
""".format(own="\n".join(f"  {name:<34} {verb.summary}" for name, verb in OWN.items()))


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
    if first == DATA:
        return _data(argv[1:])
    if first in OWN:
        return call(first, argv[1:])
    if not first.startswith("-") and first not in COMMANDS:
        return complain("", no_command(first, (DATA, *OWN)))
    return _run(argv)


def _data(options: list[str]) -> int:
    if {"-h", "--help"} & set(options):
        print(HELP, end="")
        return 0
    folder = ""
    if "--to" in options[:-1]:
        place = options.index("--to")
        folder = options[place + 1]
        options = options[:place] + options[place + 2 :]
    if options and not options[0].startswith("-"):
        options = ["--data", *options]
    with mistakes(DATA) as told:
        from .early import check_names

        check_names(["fit", *options])
        from .data import describe

        print(describe(options, folder))
    return told.code


def _run(argv: list[str]) -> int:
    began = time.monotonic()  # before torch is imported, which takes its time
    with mistakes(next((token for token in argv if token in COMMANDS), ""), NAMES) as told:
        from .early import check_names

        check_names(argv)
        from .command import run

        run(argv, began)
    return told.code
