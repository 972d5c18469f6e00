"""The names that other tools have for what is here."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
import pytorch_lightning as pl

from ssl_lightning.cli.habits import COMMANDS, OPTIONS, VERBS, meant_by, no_command
from ssl_lightning.cli.main import main
from ssl_lightning.cli.verbs import OWN
from ssl_lightning.encoders.timm_names import names
from ssl_lightning.plugins.arguments import parameters
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.trainer import STANDING


def options(method: str, data: str) -> set[str]:
    """The options of a run, as the parser and the chosen classes have them."""
    owners = {"trainer": pl.Trainer, **STANDING}
    owners |= {"model": Registry("ssl_lightning.methods")[method], "data": Registry("ssl_lightning.datamodules")[data]}
    given = {f"--{key}.{name}" for key, cls in owners.items() for name in parameters(cls)}
    return given | {"--config", "--seed_everything", "--trainer", "--model", "--data", "--ckpt_path", "--resume"}


HABITS = [
    # lightly-train
    ("--out", "--trainer.default_root_dir"),
    ("--method", "--model"),
    ("--epochs", "--trainer.max_epochs"),
    ("--batch_size", "--data.batch_size"),
    ("--num_workers", "--data.workers"),
    ("--devices", "--trainer.devices"),
    ("--accelerator", "--trainer.accelerator"),
    ("--precision", "--trainer.precision"),
    ("--seed", "--seed_everything"),
    ("--loggers", "--trainer.logger"),
    ("--resume_interrupted", "--resume auto"),
    ("--transform_args", "--data.augmentation"),
    ("--embed_dim", "--model.output_dim"),
    # timm
    ("--data-dir", "--data.root"),
    ("--batch-size", "--data.batch_size"),
    ("--lr", "--model.lr"),
    ("--opt", "--model.optimizer"),
    ("--weight-decay", "--model.weight_decay"),
    ("--warmup-epochs", "--model.warmup_epochs"),
    ("--workers", "--data.workers"),
    ("--img-size", "--data.image_size"),
    ("--output", "--trainer.default_root_dir"),
    ("--amp", "--trainer.precision 16-mixed"),
    ("--clip-grad", "--trainer.gradient_clip_val"),
    ("--grad-accum-steps", "--trainer.accumulate_grad_batches"),
    ("--log-interval", "--trainer.log_every_n_steps"),
    ("--torchcompile", "--model.compile"),
    ("--checkpoint-hist", "--checkpoint.keep"),
    # Hugging Face's Trainer
    ("--learning_rate", "--model.lr"),
    ("--per_device_train_batch_size", "--data.batch_size"),
    ("--num_train_epochs", "--trainer.max_epochs"),
    ("--max_steps", "--trainer.max_steps"),
    ("--output_dir", "--trainer.default_root_dir"),
    ("--gradient_accumulation_steps", "--trainer.accumulate_grad_batches"),
    ("--fp16", "--trainer.precision 16-mixed"),
    ("--bf16", "--trainer.precision bf16-mixed"),
    ("--max_grad_norm", "--trainer.gradient_clip_val"),
    ("--logging_steps", "--trainer.log_every_n_steps"),
    ("--save_total_limit", "--checkpoint.keep"),
    ("--report_to", "--trainer.logger"),
    ("--resume_from_checkpoint", "--resume"),
    ("--dataloader_num_workers", "--data.workers"),
    ("--optim", "--model.optimizer"),
    ("--torch_compile", "--model.compile"),
    ("--dataset_name", "--data"),
    # plain Lightning
    ("--max_epochs", "--trainer.max_epochs"),
    ("--gpus", "--trainer.devices"),
    ("--trainer.gpus", "--trainer.devices"),
    ("--trainer.epochs", "--trainer.max_epochs"),
    ("--trainer.max_epoch", "--trainer.max_epochs"),
    ("--model.learning_rate", "--model.lr"),
    ("--data.num_workers", "--data.workers"),
    ("--data.data_dir", "--data.root"),
    ("--model.optimizer.lr", "--model.lr"),
    ("--optimizer.lr", "--model.lr"),
    ("--ckpt", "--ckpt_path"),
]


@pytest.mark.parametrize(("habit", "meant"), HABITS)
def test_an_option_of_another_tool_leads_to_ours(habit, meant):
    assert meant_by(habit, options("simclr", "image_folder")) == f" Did you mean {meant!r}?"


def test_of_several_meanings_the_data_decides_and_what_it_lacks_is_not_suggested():
    assert "'--data.path'" in meant_by("--data_dir", options("bert", "text_files"))
    assert "'--data.row_length'" in meant_by("--max_seq_length", options("bert", "text_files"))
    assert "'--model.mask_ratio'" in meant_by("--mlm_probability", options("bert", "text_files"))
    assert "image_size" not in meant_by("--img_size", options("bert", "text_files"))


def test_every_option_and_verb_of_the_tables_exists_and_no_habit_has_two():
    methods, data = (list(Registry(f"ssl_lightning.{kind}")) for kind in ("methods", "datamodules"))
    known = {option for method in methods for option in options(method, "digits")}
    known |= {option for name in data for option in options("simclr", name)}
    assert {f"--{each}".partition(" ")[0] for meant in OPTIONS for each in meant.split(", ")} <= known
    for table in (OPTIONS, VERBS):
        words = [word for habits in table.values() for word in habits.split()]
        assert len(words) == len(set(words))
    assert {verb.partition(" ")[0] for verb in VERBS} <= {
        *COMMANDS, "data", *OWN, "--help", "--version",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "meant"),
    [
        ("train", "fit"),
        ("pretrain", "fit"),
        ("embed", "predict"),
        ("evaluate", "validate"),
        ("list-models", "encoders"),
    ],
)
def test_a_verb_of_another_tool_leads_to_ours(verb, meant):
    assert f"Did you mean {meant!r}?" in no_command(verb, ("data", *OWN))


@pytest.mark.parametrize("name", ["dinov2", "SimSiam", "Barlow-Twins", "mlm", "hubert", "i-jepa", "T5"])
def test_a_method_of_another_tool_leads_to_the_nearest(name):
    assert "The nearest here is" in Registry("ssl_lightning.methods").akin_to(name)


def test_every_related_name_leads_to_a_plug_in_and_is_none_itself():
    from importlib.metadata import entry_points

    akin = [point for point in entry_points(group="ssl_lightning.akin") if point.value.startswith("ssl_lightning.")]
    plugins = {name: plugin.value for kind in ("methods", "datamodules") for name, plugin in _plugins(kind).items()}
    assert len(akin) > 40 and {point.value for point in akin} <= set(plugins.values())
    assert not {point.name for point in akin} & set(plugins)


def _plugins(kind):
    return Registry(f"ssl_lightning.{kind}").plugins


def test_wrong_names_are_told_before_torch_is_imported():
    """In half a second, where torch and Lightning take ten."""
    wrong = [
        "train --model simclr",
        "fit --model dino --data digits",
        "fit --model simclr --data digit",
        "fit --model simclr --data digits --model.encoder resnt18",
        "data imagenet_1k",
    ]
    code = (
        "import sys; from ssl_lightning.cli.main import main;"
        " codes = [main(line.split()) for line in sys.argv[1:]];"
        " sys.exit(f'{codes}' if set(codes) != {2} or {'torch', 'pytorch_lightning'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *wrong], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(wrong) and all("Did you mean" in lines[i] for i in (0, 2, 3)), lines


def test_the_names_of_timms_models_are_those_of_its_source():
    import timm

    assert set(timm.list_models()) <= names() and all(timm.is_model(name) for name in names())


def test_help_of_a_data_set_lists_the_fields_of_its_augmentation(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--data.help", "image_folder"])
    text = capsys.readouterr().out
    policy = Registry("ssl_lightning.datamodules")["image_folder"].policy
    for field in inspect.signature(type(policy)).parameters:
        assert f"  --data.augmentation.{field} " in text
    assert "probability of a horizontal flip" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--trainer.logger tensorboard --trainer.logger.group x", "TensorBoard takes flush_secs."),
        ("--model.encoder conv --model.encoder.foo 3", "ConvEncoder takes channels, width, depth, norm."),
        ("--model.encoder conv --model.encoder.widht 3", "Did you mean '--model.encoder.width'?"),
        ("--model.encoder conv --model.encoder.batch_size 3", "Did you mean '--data.batch_size'?"),
    ],
)
def test_an_option_that_a_chosen_class_lacks_is_not_taken_for_the_class(options, words, capsys):
    argv = options.split()
    assert main(["fit", "--model", "simclr", "--data", "digits", *argv]) == 2
    assert capsys.readouterr().err == f"ssl-lightning fit: error: There is no option {argv[2]}. {words}\n"
