"""What this package needs of Lightning's inside, against a plain trainer: each test fails when
Lightning changes."""

from __future__ import annotations

import ast
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.tuner import Tuner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ssl_lightning.cli.command import CLI
from ssl_lightning.run import lightning
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO

ROOT = Path(__file__).parents[2]


class Linear(pl.LightningModule):
    """A linear layer that learns nothing in particular."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor) -> None:
        self.log("a value", self.layer(batch).mean())

    def test_step(self, batch: Tensor) -> None:
        self.validation_step(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Watch(pl.Callback):
    """Calls a function at the end of each batch."""

    def __init__(self, look: Callable[[Any], Any]) -> None:
        self.look, self.seen = look, list[Any]()

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.seen.append(self.look(trainer))


def loader(batches: int = 5) -> DataLoader[Tensor]:
    return DataLoader(torch.zeros(2 * batches, 4), batch_size=2)  # type: ignore[arg-type]  # a tensor serves as a data set


def plain(tmp_path: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path, **settings}
    return pl.Trainer(
        callbacks=list(callbacks), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip


def test_raw_batches_are_not_converted_and_others_are(tmp_path: Path) -> None:
    trainer = plain(tmp_path, precision="bf16-true")
    lightning.convert_views_alone(trainer, is_raw)
    lightning.convert_views_alone(trainer, is_raw)  # each run of a trainer does
    convert = trainer.precision_plugin.convert_input
    raw, views = {"raw": torch.ones(1)}, {"views": [torch.ones(1)], "index": torch.ones(1, dtype=torch.int64)}
    assert convert(raw) is raw and lightning.converted(trainer.precision_plugin, is_raw, raw) is raw
    assert convert(views)["views"][0].dtype == torch.bfloat16 and convert(views)["index"].dtype == torch.int64
    assert pickle.loads(pickle.dumps(trainer.precision_plugin)).convert_input(raw)["raw"].dtype == torch.float32


def is_raw(batch: Any) -> bool:
    return "raw" in batch


def test_lightning_converts_a_batch_before_the_hooks_that_make_views(tmp_path: Path) -> None:
    """Or `convert_views_alone` has no purpose."""
    seen: list[Any] = []

    class Hooked(Linear):
        def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
            seen.append(batch.dtype)
            return batch

    trainer = plain(tmp_path, precision="bf16-true", max_epochs=1)
    trainer.fit(Hooked(), loader())
    assert set(seen) == {torch.bfloat16}


def test_a_module_outside_of_a_run_has_no_trainer(tmp_path: Path) -> None:
    module, trainer = Linear(), plain(tmp_path)
    assert lightning.trainer_of(module) is None
    trainer.fit(module, loader())
    assert lightning.trainer_of(module) is trainer


def test_batches_are_counted_over_epochs_and_resumptions(tmp_path: Path) -> None:
    assert lightning.batches_done(None) == 0
    watch = Watch(lightning.batches_done)
    first = plain(tmp_path, watch, accumulate_grad_batches=2)
    first.fit(Linear(), loader())
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = plain(tmp_path, watch, accumulate_grad_batches=2, max_epochs=3)
    resumed.fit(Linear(), loader(), ckpt_path=tmp_path / "a.ckpt")
    assert watch.seen == list(range(1, 16)) and resumed.global_step == 9


def test_within_a_batch_it_is_not_yet_counted(tmp_path: Path) -> None:
    class Early(Watch):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            self.seen.append(self.look(trainer))

    watch = Early(lightning.batches_done)
    plain(tmp_path, watch, max_epochs=1).fit(Linear(), loader(3))
    assert watch.seen == [0, 1, 1, 2, 2, 3]


def test_a_batch_that_is_only_accumulated_updates_nothing(tmp_path: Path) -> None:
    """Each second one of 5 updates, and an epoch's last."""
    watch = Watch(lambda trainer: (lightning.updated(trainer), trainer.global_step))
    plain(tmp_path, watch, accumulate_grad_batches=2).fit(Linear(), loader())
    updates, steps = zip(*watch.seen, strict=True)
    assert updates == (False, True, False, True, True) * 2
    assert [step for step, updated in zip(steps, updates, strict=True) if updated] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_told_to_stop_goes_on_until_min_steps(tmp_path: Path) -> None:
    def stop(trainer: Any) -> tuple[bool, int]:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 2
        return lightning.stopping(trainer), trainer.global_step

    watch = Watch(stop)
    plain(tmp_path, watch, min_epochs=0, min_steps=4).fit(Linear(), loader())
    assert watch.seen == [(False, 1), (False, 2), (False, 3), (True, 4)]


@pytest.mark.parametrize("counted", [False, True])
def test_an_epoch_is_counted_after_a_resume_from_its_last_step(tmp_path: Path, counted: bool) -> None:
    """Without `count_epoch` it is not: where that passes, Lightning has mended it."""
    save = Watch(
        lambda trainer: (
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt") if trainer.global_step in (5, 7) else None
        )
    )
    plain(tmp_path, save, max_epochs=1).fit(Linear(), loader())

    class Start(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            if counted:
                lightning.count_epoch(trainer)

    again = plain(tmp_path, save, Start(), max_epochs=2)
    again.fit(Linear(), loader(), ckpt_path=tmp_path / "5.ckpt")
    assert again.global_step == 10
    last = plain(tmp_path, Start(), max_epochs=2)
    last.fit(Linear(), loader(), ckpt_path=tmp_path / "7.ckpt")
    assert (last.global_step == 10) == counted, last.global_step


@pytest.mark.parametrize("opened", [False, True])
def test_the_length_of_an_epoch_is_known_when_the_optimizer_is_built(tmp_path: Path, opened: bool) -> None:
    class Scheduled(Linear):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            if opened:
                lightning.open_training_data(self.trainer)
            self.length = self.trainer.num_training_batches
            return super().configure_optimizers()

    module = Scheduled()
    plain(tmp_path, max_epochs=-1, max_steps=7).fit(module, loader())
    assert (module.length == 5) == opened


def test_the_length_of_a_run_may_be_set_later(tmp_path: Path) -> None:
    trainer = plain(tmp_path, max_epochs=1)
    lightning.set_epochs(trainer, 3)
    trainer.fit(Linear(), loader())
    assert trainer.global_step == trainer.estimated_stepping_batches == 15 and trainer.max_epochs == 3


def test_a_published_value_is_seen_by_other_callbacks(tmp_path: Path) -> None:
    def publish(trainer: Any) -> None:
        lightning.publish(trainer, {"watched": 1.0})

    stopping = EarlyStopping("watched", patience=1, check_on_train_epoch_end=True)
    trainer = plain(tmp_path, Watch(publish), stopping, max_epochs=9)
    trainer.fit(Linear(), loader())
    assert trainer.current_epoch == 2 and float(trainer.callback_metrics["watched"]) == 1
    lightning.withdraw(trainer, ["watched", "none"])
    assert "watched" not in trainer.callback_metrics


def test_early_stopping_looks_when_it_is_told_and_waits_for_its_metric(tmp_path: Path) -> None:
    stopping = EarlyStopping("watched", patience=1)
    looks: list[int] = []

    class Tell(pl.Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            lightning.look_when_told(stopping)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step in (7, 8, 9):
                if trainer.global_step > 7:
                    lightning.publish(trainer, {"watched": 1.0})
                stopping.on_validation_end(trainer, pl_module)
                looks.append(stopping.wait_count)

    trainer = plain(tmp_path, Tell(), stopping, max_epochs=9)
    trainer.fit(Linear(), loader())
    assert trainer.global_step == 9 and looks == [0, 0, 1]


def double(trainer: Any, path: Any) -> Any:
    assert trainer.lightning_module is not None
    return path and path.parent / "b.ckpt"


def test_each_verb_takes_its_checkpoint_by_a_function(tmp_path: Path) -> None:
    trainer = plain(tmp_path, max_epochs=1)
    trainer.fit(Linear(), loader())
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    lightning.name_checkpoints(trainer, double)  # by `lightning.selected`
    assert pickle.loads(pickle.dumps(trainer._checkpoint_connector._select_ckpt_path))  # trainers travel
    trainer.fit_loop.max_epochs = 2
    for verb in (trainer.fit, trainer.validate, trainer.test):
        verb(Linear(), loader(), ckpt_path=tmp_path / "a.ckpt")
        assert str(trainer.ckpt_path).endswith("b.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(Linear(), loader())
    assert trainer.ckpt_path is None


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_table_of_results_can_be_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: Any, hidden: bool
) -> None:
    class Hide(pl.Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if hidden:
                lightning.hide_results(trainer, split)

        on_test_epoch_end = on_validation_epoch_end

    trainer = plain(tmp_path, Hide())
    (trainer.validate if split == "val" else trainer.test)(Linear(), loader())
    assert ("a value" in capsys.readouterr().out) != hidden


@pytest.mark.parametrize("synchronized", [False, True])
def test_the_trainer_is_asked_whether_it_synchronizes_batch_norm(tmp_path: Path, synchronized: bool) -> None:
    several = plain(tmp_path, devices=2, strategy="ddp", sync_batchnorm=synchronized)
    assert lightning.synchronizes_batch_norm(several) == synchronized
    assert not lightning.synchronizes_batch_norm(plain(tmp_path))


def test_what_is_not_to_be_broadcast_is_left_out_of_ddp(tmp_path: Path) -> None:
    class Queue(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("features", torch.zeros(3))
            self.register_buffer("pointer", torch.zeros(1))

    module = Queue()
    lightning.do_not_broadcast(module, ["features"])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(module)
        assert [buffer.data_ptr() for buffer in wrapped.modules_buffers] == [module.pointer.data_ptr()]
    finally:
        dist.destroy_process_group()


def test_lightning_wraps_the_module_itself(tmp_path: Path) -> None:
    """So that what `do_not_broadcast` says is heard."""
    trainer = plain(tmp_path, devices=1, strategy="ddp")
    seen: list[Any] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(trainer.strategy.model.module is pl_module)

    trainer.callbacks.append(Look())
    try:
        trainer.fit(Linear(), loader())
    finally:
        dist.destroy_process_group()
    assert seen == [True]


def test_checkpoints_are_written_by_the_given_plugin_where_the_user_gave_none(tmp_path: Path) -> None:
    class Users(TorchCheckpointIO):
        pass

    default, given = AtomicIO(), Users()
    for plugins, expected in (([], default), ([given], given)):
        trainer = plain(tmp_path, plugins=plugins)
        lightning.use_checkpoint_io(trainer, default)
        assert trainer.strategy.checkpoint_io is expected
    with pytest.raises(MisconfigurationException, match="AsyncCheckpointIO writes in place"):
        lightning.use_checkpoint_io(plain(tmp_path, plugins=[AsyncCheckpointIO()]), default)


@pytest.mark.parametrize(
    ("command", "place", "in_a_step"),
    [
        ("fit", "training_step", True),
        ("validate", "validation_step", True),
        ("test", "test_step", True),
        ("predict", "predict_step", True),
        ("fit", "configure_optimizers", False),
        ("fit", "on_fit_start", False),
    ],
)
def test_an_error_in_a_step_is_told_from_one_at_the_start(
    tmp_path: Path, command: str, place: str, in_a_step: bool
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("a defect")

    module = type("Fails", (Linear,), {place: fail})()
    with pytest.raises(KeyError, match="a defect") as raised:
        getattr(plain(tmp_path), command)(module, loader())
    assert lightning.raised_in_a_step(raised.value) == in_a_step


@pytest.mark.parametrize("ours", [False, True])
def test_signals_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    """Lightning's own handler of SIGTERM is there without `take_signals`, and its exchange before
    each batch."""
    before = signal.getsignal(signal.SIGTERM)
    handlers, exchanges = list[Any](), list[Any]()
    trainer = plain(tmp_path, Watch(lambda _: handlers.append(signal.getsignal(signal.SIGTERM))), max_epochs=1)
    loop = trainer.fit_loop.epoch_loop
    assert callable(loop._broadcast_sigterm_tensor)
    if ours:
        lightning.take_signals(trainer)
        assert loop._broadcast_sigterm_tensor is lightning.nothing
        assert pickle.loads(pickle.dumps(loop._broadcast_sigterm_tensor)) is lightning.nothing
    else:
        loop._broadcast_sigterm_tensor = lambda: exchanges.append(1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    try:
        trainer.fit(Linear(), loader())
    finally:
        dist.destroy_process_group()
    assert all((handler == before) == ours for handler in handlers)
    assert bool(exchanges) != ours
    assert lightning.nothing() is None


def test_launched_processes_are_no_longer_watched(tmp_path: Path) -> None:
    """Lightning's observer would kill this process once one of them has ended with a code."""
    trainer = plain(tmp_path, devices=2, strategy="ddp")
    launcher = trainer.strategy.launcher
    assert isinstance(launcher, _SubprocessScriptLauncher) and not lightning.only_waits(trainer)
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    launcher.procs = [process]
    observer = _ChildProcessObserver(main_pid=os.getpid(), child_processes=launcher.procs)
    assert lightning.launched(trainer) == [process]
    process.wait()
    assert observer._run(), "or it would have killed the tests"
    assert lightning.launched(trainer) == [] == lightning.launched(plain(tmp_path))


def test_a_process_that_only_waits_for_others_is_told(tmp_path: Path) -> None:
    assert lightning.only_waits(plain(tmp_path, devices=2, strategy="ddp_spawn"))
    assert not lightning.only_waits(plain(tmp_path))


def test_the_signal_to_requeue_after_is_slurms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lightning.requeue_signal(plain(tmp_path)) is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert lightning.requeue_signal(plain(tmp_path)) == signal.SIGUSR1
    other = SLURMEnvironment(requeue_signal=signal.SIGUSR2)
    assert lightning.requeue_signal(plain(tmp_path, plugins=[other])) == signal.SIGUSR2
    assert lightning.requeue_signal(plain(tmp_path, plugins=[SLURMEnvironment(auto_requeue=False)])) is None


@pytest.mark.parametrize("name", ["_parse_ckpt_path", "_set_seed", "_parser", "subcommands", "parse_arguments"])
def test_what_the_command_line_overrides_or_calls_is_there(name: str) -> None:
    """Python would not complain of an override that nothing calls."""
    assert callable(getattr(LightningCLI, name))
    assert name == "_parser" or name in vars(CLI)


INSIDE = {
    "fit_loop", "validate_loop", "test_loop", "predict_loop", "epoch_loop", "epoch_progress", "batch_progress",
    "callback_metrics", "checkpoint_io", "_trainer", "_layer_sync", "_ddp_params_and_buffers_to_ignore",
}  # fmt: skip
"""Attributes that `run/lightning.py` alone may touch, besides any private one of a trainer."""
READ = {
    ("ssl_lightning/run/progress.py", "callback_metrics"),
    ("ssl_lightning/run/checkpoints/saving.py", "callback_metrics"),
    ("ssl_lightning/testing/methods.py", "checkpoint_io"),
}  # fmt: skip
"""Public uses: reading the metrics, and the plugin of a test's trainer."""


def inside(path: str, source: str) -> list[str]:
    """The parts of Lightning's inside that a file touches."""
    return [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and (
            (node.attr in INSIDE and (path, node.attr) not in READ)
            or (node.attr.startswith("_") and ast.unparse(node.value).rpartition(".")[2] in ("trainer", "strategy"))
        )
    ]


def test_a_run_under_way_gets_a_number_of_steps(tmp_path: Path) -> None:
    def look(trainer: Any) -> None:
        lightning.set_steps(trainer, 7)

    trainer = plain(tmp_path, Watch(look), max_epochs=-1)
    trainer.fit(Linear(), loader())
    assert trainer.global_step == trainer.max_steps == trainer.estimated_stepping_batches == 7
    lightning.set_steps(trainer, -1)
    assert trainer.estimated_stepping_batches == float("inf")


def test_a_timer_has_another_time_and_serves_again(tmp_path: Path) -> None:
    timer, seen = Timer({"hours": 1}), list[float]()
    trainer = plain(tmp_path, timer, Watch(lambda trainer: lightning.limit_time(timer, 0.0)))
    assert lightning.timers(trainer) == [timer]
    assert lightning.timers(SimpleNamespace(callbacks=[Timer(), Watch(id)])) == []  # they end nothing
    trainer.fit(Linear(), loader())
    assert trainer.global_step == 2  # the watch was told after the timer had looked
    seen.append(timer.time_elapsed())
    lightning.rewind(timer)
    assert seen[0] > timer.time_elapsed() == 0 and timer.start_time() is timer.end_time() is None


def test_another_fit_counts_from_zero(tmp_path: Path) -> None:
    trainer, method = plain(tmp_path, max_epochs=-1, max_steps=7, accumulate_grad_batches=2), Linear()
    trainer.fit(method, loader())
    before = trainer.current_epoch, lightning.batches_done(trainer)
    lightning.count_from_zero(trainer)
    assert trainer.global_step == trainer.current_epoch == lightning.batches_done(trainer) == 0 < min(before)
    bias = method.layer.bias.clone()
    trainer.fit(method, loader())
    assert (trainer.global_step, trainer.current_epoch, lightning.batches_done(trainer)) == (7, *before)
    assert not torch.equal(method.layer.bias, bias)


def test_nothing_else_touches_the_inside_of_lightning() -> None:
    assert inside("a.py", "self.trainer.fit_loop.max_epochs = 3") and inside("a.py", "trainer._results.clear()")
    touched = []
    for folder in ("ssl_lightning", "methods", "datamodules"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            touched += inside(name, path.read_text()) if name != "ssl_lightning/run/lightning.py" else []
    assert touched == []


def test_every_part_is_public_and_documented_and_imports_nothing_of_this_package() -> None:
    tree = ast.parse((ROOT / "ssl_lightning/run/lightning.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions and all(ast.get_docstring(node) and not node.name.startswith("_") for node in functions)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    tested = Path(__file__).read_text()
    assert [node.name for node in functions if f"lightning.{node.name}" not in tested] == []


def test_every_verb_runs_within_a_context(tmp_path: Path) -> None:
    entered: list[str] = []

    class Counting(lightning.RunsWithin):
        @contextmanager
        def within(self) -> Iterator[None]:
            entered.append(str(self.state.fn.value))
            yield
            entered.append("end")

    trainer = Counting(
        max_steps=1, accelerator="cpu", devices=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip

    class Predicts(Linear):
        def predict_step(self, batch: Tensor) -> Tensor:
            return self.layer(batch)

    model = Predicts()
    trainer.fit(model, loader())
    trainer.validate(model, loader(), verbose=False)
    trainer.test(model, loader(), verbose=False)
    trainer.predict(model, loader())
    assert entered == ["fit", "end", "validate", "end", "test", "end", "predict", "end"]


def test_the_tuner_ends_a_run_by_an_exception(tmp_path: Path) -> None:
    ended: list[BaseException] = []

    class Watched(lightning.RunsWithin):
        @contextmanager
        def within(self) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                ended.append(error)
                raise

    class Tuned(Linear):
        lr = 0.1

    trainer = Watched(
        max_steps=1, accelerator="cpu", devices=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    Tuner(trainer).lr_find(Tuned(), loader(), num_training=3)
    assert [type(error) for error in ended] == [lightning.TunerExit]


def test_further_processes_are_known_and_left_alone_by_lightning(tmp_path: Path) -> None:
    """Its observer would kill this process, since one of them fails."""
    assert lightning.launcher_of(plain(tmp_path)) is None and lightning.children(plain(tmp_path)) == {}
    trainer, events = plain(tmp_path, devices=2, strategy="ddp"), list[Any]()
    launcher = lightning.launcher_of(trainer)

    def start() -> None:
        events.append("start")
        launcher.procs.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]))

    @contextmanager
    def prepared() -> Iterator[None]:
        events.append("before")
        yield
        events.append("after")

    launcher._call_children_scripts = start
    lightning.before_launch(plain(tmp_path), prepared)
    lightning.before_launch(trainer, prepared)

    def run() -> None:
        (observer,) = [thread for thread in threading.enumerate() if getattr(thread, "_child_processes", None)]
        assert observer._child_processes is launcher.procs  # type: ignore[attr-defined]
        lightning.take_over_children(trainer)
        assert lightning.children(trainer)[1].wait() == 3
        events.append(observer._run())  # type: ignore[attr-defined]  # True: it has nothing more to do

    launcher.launch(run, trainer=trainer)
    assert events == ["before", "start", "after", True]


def test_an_experiment_that_is_none_takes_every_call() -> None:
    lightning.NoExperiment().log({"loss": 1.0}, step=2)


def test_what_a_trainer_saves_is_given_as_a_dictionary(tmp_path: Path) -> None:
    trainer = plain(tmp_path, max_steps=2)
    trainer.fit(Linear(), loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved, given = torch.load(tmp_path / "a.ckpt", weights_only=True), lightning.dump_checkpoint(trainer, None)
    assert saved.keys() == given.keys() and saved["global_step"] == given["global_step"] == 2
    assert torch.equal(saved["state_dict"]["layer.weight"], given["state_dict"]["layer.weight"])


@pytest.mark.parametrize("missing", ["pytorch-lightning_version", "state_dict", "optimizer_states", "none"])
def test_an_error_of_what_a_checkpoint_holds_is_told_from_others(missing: str, tmp_path: Path) -> None:
    trainer = plain(tmp_path, max_steps=2)
    trainer.fit(Linear(), loader())
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    content = {key: value for key, value in content.items() if key != missing}
    if missing == "optimizer_states":
        content[missing] = [{}]
    torch.save(content, path)

    class Fails(Linear):
        def on_train_start(self) -> None:
            raise KeyError("none")

    with pytest.raises(KeyError) as caught:
        plain(tmp_path, max_steps=4).fit(Fails() if missing == "none" else Linear(), loader(), ckpt_path=path)
    assert lightning.raised_while_restoring(caught.value) == (missing != "none")
