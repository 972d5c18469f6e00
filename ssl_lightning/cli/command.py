"""`ssl-lightning fit|validate|test|predict`: LightningCLI with our defaults. It imports torch, so
`main` imports it only when needed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from traceback import walk_tb
from typing import Any, NoReturn

import torch
import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import Namespace, get_loader, set_parsing_settings
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import seed_everything
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only

from ..data.datamodule import SSLDataModule
from ..data.files.source import Unreadable
from ..data.files.unwritable import Unwritable
from ..data.waiting import WorkerLost
from ..method import SSLMethod
from ..optim.finite import NotFinite
from ..plugins.arguments import parameters
from ..plugins.gate import refuse_twice
from ..plugins.installed import installed
from ..plugins.messages import did_you_mean
from ..plugins.record import GROUPS
from ..run.checkpoints.checkpoint import newest_of
from ..run.folder.identity import find_resume
from ..run.lightning import raised_in_a_step, raised_while_restoring
from ..run.pace import NoTime
from ..run.stops.peers import in_a_line
from ..trainer import STANDING, Trainer
from .complaint import in_one_line
from .defaults import class_of, kind_of_encoder, lowest_layer
from .names import CLASS_PATH, KINDS, Names, UsageError
from .origin import with_origin
from .request import Request, read_request

MISTAKES = (MisconfigurationException, ValueError, TypeError, OSError, ImportError, NotFinite)
TOLD = (Unreadable, Unwritable, WorkerLost, NotFinite, NoTime)
"""Errors of a run under way whose messages are enough."""
SPEAKERS = ("ssl_lightning", "pytorch_lightning", "lightning_fabric")
"""Packages whose errors are written for the user."""


class Refusal(Exception):
    """Carries jsonargparse's error message for an argument or a config."""


class Parser(LightningArgumentParser):
    """Raises errors as `Refusal`, so that the command line can word them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def add_class_arguments(self, theclass: Any, *args: Any, **kwargs: Any) -> Any:
        helps = str(self.description).startswith("Help for ")  # `--model.help simclr`
        if helps:
            self.description = (inspect.getdoc(theclass) or "").partition("\nArgs:")[0]
        names = super().add_class_arguments(theclass, *args, **kwargs)
        if helps:
            self._add_fields(theclass, *args)
        return names

    def _add_fields(self, theclass: Any, key: str | None = None, *_: Any) -> None:
        """The fields of a class's recipe of augmentation, for its help alone."""
        policy = getattr(theclass, "policy", None)
        if not is_dataclass(policy):
            return
        described = {each.arg_name: each.description for each in parse_docstring(inspect.getdoc(policy) or "").params}
        prefix = f"{key}." if key else ""
        for field in fields(policy):
            value = getattr(policy, field.name)
            self.add_argument(
                f"--{prefix}augmentation.{field.name}",
                default=list(value) if isinstance(value, tuple) else value,
                help=described.get(field.name, ""),
            )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a nested parser: the outermost one reports the error
            super().error(message, ex)
        raise Refusal(message) from ex


class CLI(LightningCLI):
    """LightningCLI for methods and datamodules, with each standing callback under its own key."""

    trainer: Trainer

    def __init__(self, request: Request, names: Names, layer: dict[str, Any], began: float | None = None) -> None:
        self.request, self.names, self.layer, self.began = request, names, layer, began
        set_parsing_settings(instantiate_subclass_spec_in_any=False)  # plain values stay plain values
        super().__init__(
            SSLMethod,
            SSLDataModule,
            save_config_callback=None,
            trainer_class=Trainer,
            seed_everything_default=0,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static, and calls it on self
        """The one command that was given: building the parsers of the others would take as long for
        each, and none is used."""
        return {self.request.command: LightningCLI.subcommands()[self.request.command]}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=self.seed_everything_default,
            help="The one seed of a run; the data takes it too.",
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds Lightning's arguments, with the data before the model, so that an error in the
        data's arguments is reported before an encoder is built."""
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_lightning_class_args(SSLDataModule, "data", subclass_mode=True)
        parser.add_lightning_class_args(SSLMethod, "model", subclass_mode=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key, callback in STANDING.items():
            parser.add_lightning_class_args(callback, key)

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        super().setup_parser(*args, **kwargs)
        if self.request.command == "fit":
            self._parser("fit").add_argument(
                "--resume",
                type=str,
                default="none",
                help=(
                    "`auto`: continue from the newest whole checkpoint of a run with the same settings; or the path of"
                    " a checkpoint or of a run folder; or `none`."
                ),
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        below = ["--config", json.dumps(self.layer)] if self.layer else []
        command = self.request.command
        try:
            self.config = parser.parse_args([command, *below, *self.request.tokens])
        except Refusal as refusal:
            missing = [key for key in KINDS if key not in self.request.chosen]
            if missing and "arguments are required" in str(refusal):
                # What is required may be the model's encoder, whose default depends on the data.
                raise UsageError(
                    f"Missing: --{missing[0]}. Installed: {', '.join(self.names.registries[KINDS[missing[0]]])}."
                ) from refusal
            raise UsageError(in_one_line(str(refusal), self._options())) from refusal

    def _options(self) -> set[str]:
        """Every option of the command, and those of the chosen classes."""
        encoder = self.layer.get("model", {}).get("init_args", {}).get("encoder") or {}
        chosen = {"model.encoder": encoder.get("class_path"), **self.request.chosen}
        kinds = {**KINDS, "model.encoder": "encoders"}
        classes = {key: class_of(chosen.get(key), kind, self.names) for key, kind in kinds.items()}
        of_classes = {
            f"--{key}.{name}" for key, cls in classes.items() if isinstance(cls, type) for name in parameters(cls)
        }
        return {*self._parser(self.request.command)._option_string_actions, *of_classes}

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning's lets a checkpoint's arguments override the command line."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.request.command]
        self.text = self._parser(self.request.command).dump(as_new(config), format="yaml", skip_none=False)
        if config.get("resume", "none") != "none":
            config["ckpt_path"] = self._checkpoint(config)

    def _checkpoint(self, config: Namespace) -> str | None:
        if config["ckpt_path"]:
            raise UsageError(
                f"Both --resume {config['resume']} and --ckpt_path {config['ckpt_path']} are given; give only one."
            )
        if config["resume"] != "auto":
            return str(newest_of(config["resume"]))
        method, data = (self.names.registries[kind].name_of(config[key]["class_path"]) for key, kind in KINDS.items())
        root = config["trainer"]["default_root_dir"] or "runs"
        newest, line = find_resume(root, method, data, yaml.safe_load(self.text))
        _say(line)
        return str(newest) if newest else None

    def _set_seed(self) -> None:
        seed_everything(self.config[self.request.command]["seed_everything"], workers=True, verbose=False)

    def after_instantiate_classes(self) -> None:
        self.trainer.config, self.trainer.began = self.text, self.began
        self.trainer.is_mistake = partial(is_mistake, self.request)
        self.trainer.resumes_newest = self.config[self.request.command].get("resume") == "auto"


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)


def as_new(config: Namespace) -> Namespace:
    """The config of a run without the options that started it: a resumed run has the config of the
    run that it continues."""
    config = config.clone()
    config.pop("config", None)
    config.pop("resume", None)  # `test` has no such option, and the config is also used for it
    config["ckpt_path"] = None
    return config


def run(argv: list[str], began: float | None = None) -> None:
    """Runs a command line of LightningCLI's.

    Args:
        argv: the command line.
        began: when the process began, on the monotonic clock; None: now.

    Raises:
        UsageError, RegistryError: the user made a mistake; the message is one line. Any other error
            is a defect.
    """
    names = Names(load)
    argv = with_origin(argv, names)
    request = read_request(argv, names)
    if names.taken_for_timm and kind_of_encoder(request, names) == "TokenEncoder":
        names.encoder_of_timm = "vit"
        request = read_request(argv, names)
    with worded(request, names):
        CLI(request, names, lowest_layer(request, names), began)


@contextmanager
def worded(request: Request, names: Names) -> Iterator[None]:
    """Turns the errors that are a user's mistake into `UsageError`, in one line."""
    try:
        yield
    except Exception as error:
        if os.environ.get("SSL_LIGHTNING_TRACEBACK") or not is_mistake(request, error):
            raise
        cause = _cause(error)
        if raised_while_restoring(error):
            raise UsageError(f"The checkpoint does not fit this run: {_shortened(error)}") from error
        if _used_up(cause):
            what = f"The memory is used up ({in_a_line(cause)})."
            raise UsageError(f"{what} Take a smaller --data.batch_size, or fewer --data.workers.") from error
        encoders = names.registries["encoders"]
        hints = {did_you_mean(name, encoders) for name in names.taken_for_timm if repr(name) in str(cause)}
        raise UsageError(f"{cause}{''.join(hints)}") from error


def load(text: str) -> Any:
    """The values of a config's text, as jsonargparse reads them, which takes the last of two equal
    keys.

    Raises:
        ValueError: a mapping has two.
    """
    refuse_twice(text)
    return get_loader("yaml")(text)


def _shortened(error: BaseException) -> str:
    """The message of an error that was not written for a user; a KeyError has but a name."""
    message = " ".join(str(error).split())
    message = message if len(message) < 400 else f"{message[:400]} ..."
    return message if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {message}"


def _cause(error: BaseException) -> BaseException:
    """The error that a constructor raised, without the errors in which jsonargparse wrapped it."""
    while _speaker(error) == "jsonargparse" and error.__cause__ is not None:
        error = error.__cause__
    return error


def _speaker(error: BaseException) -> str:
    """The package whose code raised an error."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")).partition(".")[0]


def _used_up(error: BaseException) -> bool:
    """Whether there was no memory left."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def is_mistake(request: Request, error: BaseException) -> bool:
    """Whether an error's message is enough for the user, without a traceback: one of those that are
    `TOLD`, of a checkpoint that does not fit, or of the memory; or one that this package,
    Lightning, a plug-in or a chosen class raised before any step."""
    cause = _cause(error)
    if raised_while_restoring(error) or _used_up(cause) or isinstance(cause, TOLD):
        return True
    plugins = {point.module.partition(".")[0] for group in GROUPS for point in installed(group)}
    classes = {str(value).partition(".")[0] for value in request.chosen.values() if CLASS_PATH.fullmatch(str(value))}
    known = {*SPEAKERS, *plugins, *classes}
    return isinstance(error, MISTAKES) and not raised_in_a_step(cause) and _speaker(cause) in known
