"""What people type who come from other tools (lightly-train, timm, the Trainer of Hugging Face,
plain Lightning), and what it is called here. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..plugins.messages import did_you_mean
from ..plugins.registry import Registry

COMMANDS = ("fit", "validate", "test", "predict")
"""LightningCLI's commands."""

VERBS = {
    "fit": "train pretrain run start",
    "fit --resume auto": "resume",
    "validate": "eval evaluate val",
    "predict": "embed encode extract features infer inference",
    "export": "convert save",
    "data": "views preview visualize visualise",
    "inspect": "info show summary",
    "runs": "ls history list_runs experiments",
    "configs": "recipes presets list_configs",
    "methods": "list list_methods",
    "encoders": "models list_models",
    "datamodules": "datasets",
    "--help": "help",
    "--version": "version",
}
"""Commands, each with the verbs of other tools for it."""

OPTIONS = {
    "ckpt_path": "checkpoint_path ckpt",
    "resume": "resume_from_checkpoint",
    "resume auto": "resume_interrupted",
    "seed_everything": "seed random_seed",
    "data": "dataset dataset_name",
    "data.root, data.path": "data_dir data_path root path train_dir train_file train_data_dir",
    "data.batch_size": "b bs per_device_train_batch_size train_batch_size",
    "data.workers": "j num_workers dataloader_num_workers loader_workers",
    "data.augmentation": "aug augment augmentations transform transforms transform_args",
    "data.image_size": "img_size input_size crop_size resolution",
    "data.row_length": "block_size max_length max_seq_length seq_len",
    "data.seconds": "audio_length duration max_duration",
    "data.sample_rate": "sr sampling_rate",
    "model": "method",
    "model.encoder": "arch backbone encoder model_name model_name_or_path network",
    "model.lr": "learning_rate",
    "model.optimizer": "opt optim",
    "model.weight_decay": "wd",
    "model.warmup_epochs": "warmup warmup_steps",
    "model.output_dim": "embed_dim proj_dim projection_dim",
    "model.temperature": "tau temp",
    "model.mask_ratio": "mask_prob mlm_probability",
    "model.compile": "torchcompile torch_compile",
    "model.checkpoint": "initial_checkpoint weights",
    "trainer.max_epochs": "epochs num_epochs n_epochs max_epoch num_train_epochs",
    "trainer.max_steps": "steps num_steps iterations iters",
    "trainer.max_time": "time_limit",
    "trainer.default_root_dir": "out out_dir output output_dir save_dir",
    "trainer.devices": "gpu gpus num_gpus nproc_per_node world_size",
    "trainer.num_nodes": "nodes",
    "trainer.accelerator": "device",
    "trainer.accelerator cpu": "cpu no_cuda use_cpu",
    "trainer.accelerator gpu": "cuda",
    "trainer.strategy ddp": "distributed",
    "trainer.precision 16-mixed": "amp fp16 half mixed_precision",
    "trainer.precision bf16-mixed": "bf16",
    "trainer.precision 32-true": "fp32",
    "trainer.accumulate_grad_batches": "accum grad_accum grad_accum_steps gradient_accumulation_steps",
    "trainer.gradient_clip_val": "clip_grad grad_clip max_grad_norm",
    "trainer.log_every_n_steps": "log_interval logging_steps",
    "trainer.logger": "loggers report_to",
    "trainer.logger wandb": "wandb log_wandb",
    "trainer.fast_dev_run true": "debug dry_run",
    "checkpoint.every_n_epochs": "save_every save_freq save_interval",
    "checkpoint.minutes": "save_steps",
    "checkpoint.keep": "save_total_limit checkpoint_hist",
}
"""Options, with a value where it is meant, each with the last parts of other tools' options for it.
Of several options the one counts that the data or the method has."""

FIRST = ("data", "trainer", "model")
"""Of options with equal last parts, those of these keys come first."""


def no_command(name: str, others: Iterable[str] = ()) -> str:
    """The error for a verb that does not exist, with the one that is meant.

    Args:
        name: what was typed.
        others: commands besides `COMMANDS`.
    """
    verb, known, methods = _plain(name), (*COMMANDS, *others), Registry("ssl_lightning.methods")
    meant = next((command for command, verbs in VERBS.items() if verb in verbs.split()), None)
    if meant is None and verb in methods:
        meant = f"fit --model {verb}"
    if meant is not None:
        return f"There is no command {name!r}. Did you mean {meant!r}?"
    near = did_you_mean(name, known) or methods.akin_to(name, "fit --model ")
    return f"There is no command {name!r}.{near} The commands are {', '.join(known)}."


def meant_by(option: str, options: Iterable[str]) -> str:
    """The question with the option that a wrong one means; empty where none is near.

    Args:
        option: as it was typed, such as `--learning-rate`.
        options: those that exist, such as `--model.lr`.
    """
    same = same_as(option, options)
    return f" Did you mean {same!r}?" if same else did_you_mean(option, sorted(options, key=_order))


def same_as(option: str, options: Iterable[str]) -> str | None:
    """The option that has the same meaning, or the same last name; None: there is none.

    Args:
        option, options: as of `meant_by`.
    """
    known = sorted(options, key=_order)
    last = _last(option)
    meant = [f"--{each}" for choice, words in OPTIONS.items() if last in words.split() for each in choice.split(", ")]
    same = [each for each in known if _last(each) == last]
    near = get_close_matches(_first(option), map(_first, same), n=1, cutoff=0.8)  # `--online_prob.lr`
    same.sort(key=lambda each: _first(each) not in near)
    return next(iter([*(each for each in meant if each.partition(" ")[0] in known), *same]), None)


def _plain(name: str) -> str:
    return name.lstrip("-").lower().replace("-", "_")


def _last(option: str) -> str:
    return _plain(option.rpartition(".")[2])


def _first(option: str) -> str:
    return option.lstrip("-").partition(".")[0]


def _order(option: str) -> tuple[int, int]:
    first = _first(option)
    return FIRST.index(first) if first in FIRST else len(FIRST), option.count(".")
