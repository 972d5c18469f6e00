"""The command line: short names, defaults and mistakes. One process, so that torch is imported
once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ssl_lightning.cli.main import main

ACME = '''
from pathlib import Path
from typing import Any
from ssl_lightning import Encoder, TokenEncoder
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.simclr import SimCLR

class Quick(SimCLR):
    """A method of another package, whose summary is longer than any terminal is wide, so that the listing must cut it.

    Acme and Others (2031), arXiv 3101.00001.
    """
    incidental = frozenset(("broken",))

    def __init__(self, encoder: Encoder, *, hurry: float = 1.0, broken: str = "", **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.broken = broken

    def step(self, batch):
        if self.broken:
            raise {"value": ValueError, "key": KeyError}[self.broken]("a defect")
        return super().step(batch)

class Reads(SimCLR):
    """Needs tokens."""
    def __init__(self, encoder: TokenEncoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)

class Silent(SimCLR):
    """Does not say what it needs."""
    def __init__(self, encoder) -> None:
        super().__init__(encoder)

class Bare(Digits):
    """Has no encoder of its own for tokens."""
    @classmethod
    def suited_encoders(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        return {"Encoder": super().suited_encoders(init_args)["Encoder"]}

class Touchy(Digits):
    """Leaves a mark when it is built."""
    def __init__(self, *, mark: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        Path(mark).touch()
'''
POINTS = """
[ssl_lightning.methods]
quick = acme_cli:Quick
reads = acme_cli:Reads
silent = acme_cli:Silent
wrecked = acme_wreck:Wrecked
twin = acme_cli:Quick
[ssl_lightning.datamodules]
touchy = acme_cli:Touchy
bare = acme_cli:Bare
"""


def lay_out(root: Path, package: str, points: str, files: dict[str, str]) -> None:
    info = root / f"{package}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(points)
    for name, text in files.items():
        (root / name).write_text(text)


@pytest.fixture(scope="module", autouse=True)
def strangers(tmp_path_factory):
    """Two packages of other people: one good but for a broken plug-in, and one that claims a name
    of the first."""
    root = tmp_path_factory.mktemp("strangers")
    lay_out(
        root,
        "acme",
        POINTS,
        {"acme_cli.py": ACME, "acme_wreck.py": 'raise OSError("no such lib")\nclass Wrecked:\n    "Wrecked."\n'},
    )
    lay_out(
        root,
        "other",
        "[ssl_lightning.methods]\ntwin = other_cli:Twin\n",
        {"other_cli.py": 'class Twin:\n    "Not a method."\n'},
    )
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


@pytest.fixture
def config(capsys):
    """What `--print_config` says about a command line."""

    def parse(*argv: object, command: str = "fit") -> dict:
        with pytest.raises(SystemExit) as stop:
            code = main([command, *map(str, argv), "--print_config"])
            pytest.fail(f"exit code {code}: {capsys.readouterr().err}")
        assert not stop.value.code
        return yaml.safe_load(capsys.readouterr().out)

    return parse


@pytest.fixture
def mistake(capsys):
    """The one line that a wrong command line is answered with."""

    def run(*argv: object) -> str:
        assert main([*map(str, argv)]) == 2
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("ssl-lightning") and "jsonargparse" not in lines[0] and "NestedArg" not in lines[0]
        return lines[0]

    return run


BASE = ("--model", "simclr", "--data", "digits")


# What needs no torch.


@pytest.mark.parametrize(
    "argv",
    [["methods"], ["datamodules", "--json"], ["encoders"], ["--help"], ["--version"], ["fitt"], ["methods", "-h"]],
)
def test_torch_and_plugins_stay_out_of_lists_help_and_version(argv, strangers):
    code = (
        "import sys; from ssl_lightning.cli.main import main; main(sys.argv[1:]); heavy = {'torch',"
        " 'pytorch_lightning', 'jsonargparse', 'yaml', 'acme_cli', 'acme_wreck'} & set(sys.modules); heavy |= {m for m"
        " in sys.modules if m.startswith(('ssl_lightning.methods', 'ssl_lightning.datamodules',"
        " 'ssl_lightning.encoders'))}; sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(strangers)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or "error" in done.stderr


def test_the_list_fits_the_terminal_and_shows_whose_a_plugin_is(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].split() == ["name", "summary", "package", "version"]
    quick = next(line for line in lines if line.startswith("quick"))
    assert "A method of another package, whose" in quick and "…" in quick and quick.split()[-2:] == ["acme", "2.0"]
    names = {line.split()[0] for line in lines}
    assert {"simclr", "acme:twin", "other:twin"} <= names and "twin" not in names


def test_a_reader_that_has_enough_is_not_a_defect():
    shell = f"{sys.executable} -m ssl_lightning.cli methods | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", f"sleep 0.1; {shell}"], capture_output=True, text=True)
    assert ended.stdout.split() == ["141"] and not ended.stderr, ended


def test_the_list_for_programs_is_json_and_whole(capsys):
    assert main(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["quick"]["summary"].endswith("the listing must cut it.")
    assert set(rows["simclr"]) == {"name", "summary", "package", "version"}


def test_check_imports_all_and_names_what_is_broken(capsys):
    assert main(["methods", "--check"]) == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken")]
    assert len(broken) == 1 and "'wrecked' of acme 2.0" in broken[0] and "OSError: no such lib" in broken[0]
    assert main(["datamodules", "--check"]) == 0
    capsys.readouterr()
    assert main(["methods", "--check", "--json"]) == 1
    assert [row["name"] for row in json.loads(capsys.readouterr().out) if row["error"]] == ["wrecked"]


# Names.


@pytest.mark.slow
def test_a_name_means_the_same_wherever_it_stands(config, tmp_path):
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    short = write("short.yaml", "model: simclr\ndata: digits\n")
    full = write("full.yaml", "model: {class_path: simclr, init_args: {encoder: conv}}\ndata: {class_path: digits}\n")
    nested = write("nested.yaml", "fit:\n  model: simclr\n  data: digits\ntest: {model: nonsense}\n")
    write("encoder.yaml", "class_path: conv\n")
    files = write("files.yaml", "model: {class_path: simclr, init_args: {encoder: encoder.yaml}}\ndata: digits\n")
    expected = config(*BASE)
    assert expected["model"]["class_path"] == "ssl_lightning.methods.simclr.SimCLR"
    assert config("--model=simclr", "--data=digits") == expected
    assert config("--model", "ssl-lightning:simclr", "--data", "ssl_lightning.datamodules.digits.Digits") == expected
    for path in (short, full, nested, files):
        assert config("--config", path) == expected, path.name
    assert (
        config(
            "--model",
            '{"class_path": "simclr", "init_args": {"encoder": "conv"}}',
            f"--config={write('d.yaml', 'data: digits')}",
        )
        == expected
    )
    assert config(*BASE, "--model.encoder", tmp_path / "encoder.yaml") == expected
    assert config("--config", '{"model": "simclr", "data": "digits"}') == expected


def test_a_config_before_the_command_counts(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("fit: {model: simclr, data: digits}")
    with pytest.raises(SystemExit):
        main(["--config", str(tmp_path / "c.yaml"), "fit", "--print_config"])
    assert "SimCLR" in capsys.readouterr().out


def test_the_later_layer_wins_and_shared_arguments_stay(config, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "model: {class_path: quick, init_args: {hurry: 3, temperature: 0.3, lr: 1e-2, encoder: {class_path: conv,"
        " init_args: {width: 8}}}}\ndata: digits"
    )
    (tmp_path / "b.yaml").write_text("model: {init_args: {temperature: 0.4}}\ntrainer: {max_epochs: 3}")
    parsed = config("-c", tmp_path / "a.yaml", "-c", tmp_path / "b.yaml", "--model.encoder.width", 4)
    assert parsed["model"]["init_args"]["hurry"] == 3 and parsed["model"]["init_args"]["lr"] == 0.01
    assert parsed["model"]["init_args"]["temperature"] == 0.4 and parsed["trainer"]["max_epochs"] == 3
    assert parsed["model"]["init_args"]["encoder"]["init_args"]["width"] == 4
    parsed = config("-c", tmp_path / "a.yaml", "--model", "simclr")
    assert parsed["model"]["class_path"].endswith("SimCLR") and "hurry" not in parsed["model"]["init_args"]
    assert parsed["model"]["init_args"]["temperature"] == 0.3


def test_help_of_a_short_name_is_its_docstring(capsys):
    for argv in (["--model.help", "simclr"], ["--model.help=simclr"]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", *argv])
        text = " ".join(capsys.readouterr().out.split())
        assert not stop.value.code and "arXiv 2002.05709" in text and "--model.temperature" in text


def test_a_run_explains_its_options(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    assert all(
        option in text for option in ("--model.help", "--resume", "--online_probe.enabled", "--trainer.max_epochs")
    )


# Defaults.


def test_the_data_gives_the_encoder_and_the_epochs(config):
    digits, fashion = config(*BASE), config("--model", "simclr", "--data", "fashion_mnist")
    assert digits["model"]["init_args"]["encoder"]["class_path"] == "ssl_lightning.encoders.conv.ConvEncoder"
    assert digits["model"]["init_args"]["encoder"]["init_args"]["channels"] == 1
    assert fashion["model"]["init_args"]["encoder"]["init_args"]["small_images"] is True
    from ssl_lightning.datamodules.digits import Digits

    assert digits["trainer"]["max_epochs"] == Digits.default_epochs
    assert config(*BASE, "--trainer.max_steps", 7)["trainer"]["max_epochs"] is None
    assert config(*BASE, "--trainer.max_time", "00:01:00:00")["trainer"]["max_epochs"] is None
    assert config(*BASE, "--trainer.max_epochs", 2)["trainer"]["max_epochs"] == 2
    by_time = config(*BASE, "--minutes", 1.5)["trainer"]
    assert by_time["max_epochs"] is None and by_time["minutes"] == 1.5
    assert config(*BASE, "--trainer.minutes", 1.5)["trainer"] == by_time


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--minutes", "0"), "Trainer(minutes=0) is out of range"),
        (("--minutes", "soon"), "trainer.minutes"),
        (("--minutes", "3", "--trainer.max_steps", "5"), "both end the run"),
        (("--minutes=3", "--report.minutes", "4"), "Report(minutes=4) leaves nothing of Trainer(minutes=3) to train"),
    ],
)
def test_minutes_that_make_no_sense_are_refused_in_a_line(argv, message, capsys):
    assert main(["fit", *BASE, *argv, "--trainer.accelerator", "cpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.slow
def test_a_name_that_is_no_registered_encoder_is_a_timm_model(config, tmp_path):
    def encoder(*argv: object) -> dict:
        return config("--model", "simclr", "--data", "fashion_mnist", *argv)["model"]["init_args"]["encoder"]

    plain = encoder("--model.encoder", "resnet18")
    assert plain["class_path"] == "ssl_lightning.encoders.timm.TimmEncoder" and plain["init_args"]["name"] == "resnet18"
    assert plain["init_args"]["small_images"] is False, (
        "the arguments of the data's default encoder are not those of another"
    )
    assert plain["init_args"]["channels"] == 1, "but its channels are the data's"
    small = encoder("--model.encoder", "resnet18", "--model.encoder.small_images", "true")
    assert small["init_args"] == {**plain["init_args"], "small_images": True}
    (tmp_path / "e.yaml").write_text(
        "model: {init_args: {encoder: {class_path: resnet18, init_args: {small_images: true}}}}"
    )
    assert encoder("-c", tmp_path / "e.yaml") == small
    assert (
        encoder("--model.encoder=vit_tiny_patch16_224.augreg_in21k")["init_args"]["name"]
        == "vit_tiny_patch16_224.augreg_in21k"
    )
    assert encoder("--model.encoder", "conv", "--model.encoder.width", 4)["init_args"] == {
        "channels": 1,
        "width": 4,
        "depth": 4,
        "norm": "batch",
    }
    assert encoder("--model.encoder.drop_path_rate", 0.1)["init_args"]["small_images"] is True, (
        "a changed default is still the default"
    )


@pytest.mark.slow
def test_moco_v3_fixes_the_positions_of_vision_transformers_alone(config):
    """Of none where the encoder, the model or its weights have others, or somebody says so."""

    def position(*argv: object, model: str = "moco_v3", data: str = "fashion_mnist") -> str | None:
        encoder = config("--model", model, "--data", data, *argv)["model"]["init_args"]["encoder"]
        return encoder["init_args"].get("position")

    tiny = ("--model.encoder", "vit_tiny_patch16_224")
    assert position(*tiny) == "sincos" and position(*tiny, model="simclr") == "learned"
    assert position(*tiny, "--model.encoder.pretrained", "true") == "learned"
    assert position(*tiny, "--model.encoder.position", "learned") == "learned"
    assert position() == position("--model.encoder", "resnet18") == "learned"
    assert position(data="digits") is position(data="tones") is None


@pytest.mark.slow
def test_a_vision_transformer_takes_size_and_patch_of_the_data_and_masks_where_the_method_does(config):
    def encoder(model: str, *argv: object) -> tuple[str, int | None, int | None, int]:
        chosen = config("--model", model, *argv)["model"]["init_args"]["encoder"]
        init_args = chosen["init_args"]
        return (
            chosen["class_path"].rpartition(".")[2],
            init_args["image_size"],
            init_args["patch_size"],
            init_args["channels"],
        )

    tiny = ("--model.encoder", "vit_tiny_patch16_224")
    assert encoder("simclr", *tiny, "--data", "digits") == ("TimmEncoder", 16, 2, 1)
    assert encoder("reads", *tiny, "--data", "digits") == ("ViTEncoder", 16, 2, 1)
    assert encoder("reads", "--data", "digits") == (
        "ViTEncoder",
        16,
        4,
        1,
    ), "the data's default: small, and of 16 patches"
    assert encoder("reads", "--data", "cifar10") == ("ViTEncoder", 32, 4, 3), "the data's default"
    assert encoder("reads", "--model.encoder", "vit", "--data", "cifar10", "--data.image_size", 64) == (
        "ViTEncoder",
        64,
        8,
        3,
    )
    folder = ("--data", "image_folder", "--data.root", "photos")
    assert encoder("simclr", "--model.encoder", "vit_base_patch32_224", *folder) == (
        "TimmEncoder",
        224,
        None,
        3,
    ), "the model's own patch"
    assert encoder("simclr", *tiny, "--model.encoder.patch_size", 8, "--data", "cifar10") == ("TimmEncoder", 32, 8, 3)
    assert encoder("simclr", "--model.encoder", "resnet18", "--data", "cifar10") == ("TimmEncoder", None, None, 3)


def test_probe_sets_take_short_names(config, tmp_path):
    (tmp_path / "p.yaml").write_text(
        "data: {class_path: digits, init_args: {probe_sets: {a: fashion_mnist, b: {class_path: digits}}}}"
    )
    sets = config("--model", "simclr", "-c", tmp_path / "p.yaml")["data"]["init_args"]["probe_sets"]
    assert sets["a"]["class_path"].endswith("FashionMNIST") and sets["b"]["class_path"].endswith("Digits")
    sets = config(*BASE, "--data.probe_sets.other", "fashion_mnist", "--data.probe_sets.other.samples", 5)["data"][
        "init_args"
    ]["probe_sets"]
    assert sets["other"]["init_args"]["samples"] == 5


@pytest.mark.slow
def test_one_seed_reaches_the_data(config, tmp_path):
    def seeds(*argv: object) -> tuple[int, int]:
        parsed = config(*argv)
        return parsed["seed_everything"], parsed["data"]["init_args"]["seed"]

    assert seeds(*BASE) == (0, 0)
    assert seeds(*BASE, "--seed_everything", 3) == (3, 3)
    assert seeds(*BASE, "--seed_everything", 3, "--data.seed", 4) == (3, 4)
    for own in (3, 4):
        (tmp_path / f"{own}.yaml").write_text(yaml.safe_dump(config(*BASE, "--seed_everything", 3, "--data.seed", own)))
    assert seeds("-c", tmp_path / "3.yaml") == (3, 3)
    assert seeds("-c", tmp_path / "3.yaml", "--seed_everything", 5) == (5, 5)
    assert seeds("-c", tmp_path / "4.yaml", "--seed_everything", 5) == (5, 4)


def test_a_printed_config_reproduces_itself(config, tmp_path):
    parsed = config(
        "--model",
        "quick",
        "--data",
        "fashion_mnist",
        "--model.encoder",
        "resnet18",
        "--online_probe.lr",
        0.5,
        "--seed_everything",
        2,
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(parsed))
    assert parsed["online_probe"]["lr"] == 0.5
    assert config("--config", tmp_path / "config.yaml") == parsed


def test_an_earlier_name_of_a_callback_is_understood(config, tmp_path):
    """On the command line and in a config, whose runs may have been of that time."""
    assert config(*BASE, "--linear_probe.lr", 0.5)["online_probe"]["lr"] == 0.5
    assert config(*BASE, "--linear_probe.lr=0.5")["online_probe"]["lr"] == 0.5
    for text in ("linear_probe:\n  lr: 0.5\n", "fit:\n  linear_probe:\n    lr: 0.5\n"):
        (tmp_path / "then.yaml").write_text(text)
        assert config("-c", tmp_path / "then.yaml", *BASE)["online_probe"]["lr"] == 0.5


# Mistakes.


@pytest.mark.parametrize(
    "argv, parts",
    [
        ("fitt", ["'fitt'", "'fit'"]),
        ("train --model simclr --data digits", ["'train'", "'fit'"]),
        ("simclr", ["'simclr'", "'fit --model simclr'"]),
        ("dino", ["'dino'", "The nearest here is 'fit --model byol'", "fit, validate"]),
        ("fit --model dino --data digits", ["method 'dino'", "The nearest here is 'byol'"]),
        ("data imagenet_1k", ["datamodule 'imagenet_1k'", "Installed"]),
        ("data librispeech", ["'librispeech'", "The nearest here is 'audio_folder'"]),
        ("fit --model simclr --data .", ["'.' is a file or folder", "--data.root"]),
        (
            "fit --model mae --data python_docs",
            ["TokenEncoder", "images", "python_docs has no default", "digits", "a method for python_docs: bert"],
        ),
        ("fit --model swav --data tones --model.local_views 2", ["Tones has none", "Set --model.local_views 0"]),
        ("fit {base} -b 2", ["There is no option -b.", "'--data.batch_size'"]),
        ("fit {base} -epochs 2", ["There is no option -epochs.", "'--trainer.max_epochs'"]),
        ("fit {base} --batch_size 2", ["--batch_size.", "'--data.batch_size'"]),
        ("fit {base} --data.num-workers 2", ["'--data.workers'"]),
        ("fit {base} --model.learning_rate 2", ["'--model.lr'"]),
        ("fit {base} epochs=3", ["'epochs=3'", "'--trainer.max_epochs'"]),
        ("methods --jsn", ["--jsn", "'--json'"]),
        ("fit", ["--model", "simclr"]),
        ("fit --model simclr", ["--data", "digits"]),
        ("fit --model simcl --data digits", ["method 'simcl'", "'simclr'"]),
        ("fit --model simclr --data digit", ["datamodule 'digit'", "'digits'"]),
        ("fit --model twin --data digits", ["acme 2.0", "other 2.0", "acme:twin or other:twin"]),
        ("fit --model other:twin --data digits", ["other_cli.Twin", "SSLMethod"]),
        ("fit --model wrecked --data digits", ["acme 2.0", "OSError: no such lib"]),
        ("fit --model ssl_lightning.methods.simclr.SimCL --data digits", ["no attribute 'SimCL'"]),
        ("fit {base} --model.temperatur 0.2", ["--model.temperatur.", "'--model.temperature'"]),
        ("fit {base} --model.weight_deca 0.2", ["'--model.weight_decay'"]),
        ("fit {base} --model.encoder.widht 2", ["'--model.encoder.width'"]),
        ("fit {base} --data.batch_siz 2", ["'--data.batch_size'"]),
        ("fit {base} --trainer.max_epoch 2", ["--trainer.max_epoch.", "'--trainer.max_epochs'"]),
        ("fit {base} --online_prob.lr 2", ["'--online_probe.lr'"]),
        ("fit --model linear_probe --data digits --linear_probe.lr 2", ["--model.lr or --online_probe.lr"]),
        ("fit {base} --model.temperature hot", ["--model.temperature", "float", "'hot'"]),
        ("fit {base} --model.encoder.width 2.5", ["--model.encoder.width", "int", "'2.5'"]),
        ("fit {base} --data.augment_on devise", ["--data.augment_on", "'auto'", "Did you mean 'device'"]),
        ("fit {base} --trainer.max_epochs x", ["--trainer.max_epochs", "int", "'x'"]),
        ("fit {base} --seed_everything x", ["--seed_everything", "int", "'x'"]),
        ("fit {base} --trainer.callbacks+=Nope", ["--trainer.callbacks", "'Nope'"]),
        ("fit {base} --model.temperature", ["--model.temperature needs a value"]),
        ("fit {base} --trainer.max_epochs", ["--trainer.max_epochs needs a value"]),
        ("fit {base} more", ["'more'"]),
        ("fit {base} --model.encoder cnov", ["timm has no model 'cnov'", "'conv'"]),
        ("fit {base} --model.temperature -1", ["SimCLR(temperature=-1.0) must be above 0"]),
        ("fit {base} --data.batch_size 1", ["batch_size=1"]),
        ("fit {base} --data.probe_sets.fm fashion_mnit", ["'fashion_mnit'", "'fashion_mnist'"]),
        ("fit {base} --trainer.accelerator gp", ["'gp'"]),
        ("fit {base} --trainer.precision transformer-engine", ["precision=transformer-engine", "Use bf16-mixed"]),
        ("fit {base} --trainer.precision 16-true", ["precision=16-true", "Train with 16-mixed or bf16-mixed"]),
        ("fit --model reads --data bare", ["reads needs a TokenEncoder", "bare has no default"]),
        (
            "fit --model reads --data digits --model.encoder conv",
            ["reads needs a TokenEncoder", "ConvEncoder", "vit_tiny_patch16_224"],
        ),
        ("fit --model reads --data digits --model.encoder resnet18", ["resnet18", "ResNet", "vit_tiny_patch16_224"]),
        ("fit --model silent --data digits", ["acme_cli.Silent", "annotate"]),
        ("fit {base} --ckpt_path nowhere.ckpt --trainer.fast_dev_run true", ["nowhere.ckpt"]),
        ("fit {base} --ckpt_path a --resume auto", ["--resume auto", "--ckpt_path a"]),
        ("predict --ckpt_path nowhere.ckpt", ["nowhere.ckpt"]),
        ("fit --model.help simcl", ["'simclr'"]),
        ("fit --config", ["--config needs"]),
        ("fit --config nowhere.yaml", ["There is no config 'nowhere.yaml', neither a file nor one that ships"]),
        ("fit --config a-list.yaml", ["'a-list.yaml'", "not hold a mapping"]),
        ("fit --config torn.yaml", ["torn.yaml, line ", "YAML"]),
        ("fit --config key.yaml", ["--modle", "'--model'"]),
        ("fit --config inner.yaml", ["--model.encoder.widht", "'--model.encoder.width'"]),
        ("fit --config type.yaml", ["--data.batch_size", "int", "'many'"]),
        ("fit --config trainer.yaml", ["--trainer.max_epoch.", "'--trainer.max_epochs'"]),
        ("fit --config name.yaml", ["method 'simcrl'", "'simclr'"]),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_exit_code_2(argv, parts, mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "a-list.yaml": "- 1",
        "torn.yaml": "model: simclr\ndata: [digits",
        "key.yaml": "modle: simclr\ndata: digits",
        "inner.yaml": (
            "model: {class_path: simclr, init_args: {encoder: {class_path: conv, init_args: {widht: 2}}}}\ndata: digits"
        ),
        "type.yaml": "model: simclr\ndata: {class_path: digits, init_args: {batch_size: many}}",
        "trainer.yaml": "model: simclr\ndata: digits\ntrainer: {max_epoch: 3}",
        "name.yaml": "model: simcrl\ndata: digits",
    }.items():
        Path(name).write_text(text)
    line = mistake(*argv.format(base="--model simclr --data digits").split())
    assert all(part in line for part in parts), line


def test_a_wrong_key_is_found_before_any_data_is_built(mistake, tmp_path):
    argv = ("fit", "--model", "quick", "--data", "touchy", "--data.mark", tmp_path / "mark", "--model.encoder", "conv")
    mistake(*argv, "--model.hury", 2)
    assert not (tmp_path / "mark").exists()
    mistake(*argv, "--trainer.strategy", "nonsense")
    assert (tmp_path / "mark").exists(), "the mark shows nothing if building the data does not leave it"


# Runs.

QUICK = (
    "--model.encoder.width",
    4,
    "--report.enabled",
    "false",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.accelerator",
    "cpu",
)


@pytest.fixture
def fit(tmp_path, capsys):
    def run(*argv: object, model: str = "simclr") -> int:
        return main(
            [
                "fit",
                *map(
                    str, ("--model", model, "--data", "digits", *QUICK, "--trainer.default_root_dir", tmp_path, *argv)
                ),
            ]
        )

    return run


def test_what_does_not_go_together_is_one_line(fit, capsys):
    for argv, part in (
        (("--trainer.accumulate_grad_batches", 2), "negatives"),
        (("--trainer.callbacks+=LearningRateMonitor",), "LearningRateMonitor"),
    ):
        assert fit("--trainer.max_steps", 1, *argv) == 2
        error = capsys.readouterr().err
        assert part in error and "Traceback" not in error


def test_a_defect_keeps_its_traceback(fit, mistake, monkeypatch):
    for broken, kind in (("value", ValueError), ("key", KeyError)):
        with pytest.raises(kind, match="a defect"):
            fit("--trainer.max_steps", 1, "--model.broken", broken, model="quick")
    monkeypatch.setenv("SSL_LIGHTNING_TRACEBACK", "1")
    with pytest.raises(Exception, match="temperatur"):
        main(["fit", *BASE, "--model.temperatur", "1"])


def test_too_little_memory_is_one_line(fit, capsys, monkeypatch):
    import torch

    from ssl_lightning.method import SSLMethod

    monkeypatch.setattr(SSLMethod, "training_step", lambda *_: torch.empty(1 << 60))
    assert fit("--trainer.max_steps", 1) == 2
    error = capsys.readouterr().err
    assert "error: The memory is used up (" in error and "allocate" in error and "Traceback" not in error


@pytest.mark.slow
def test_the_checkpoint_holds_the_config_and_a_later_command_takes_it(fit, config, tmp_path, capsys):
    import torch

    argv = ("--trainer.max_steps", 2, "--model.temperature", 0.3, "--seed_everything", 7)
    assert fit("--resume", "auto", *argv) == 0
    assert "no checkpoint of simclr on digits yet; starting anew" in capsys.readouterr().out
    path = next(tmp_path.glob("simclr-digits/*/checkpoints/*.ckpt"))
    written = yaml.safe_load(torch.load(path, weights_only=True)["config"])
    assert {**written, "resume": "none"} == config(*BASE, *QUICK, "--trainer.default_root_dir", tmp_path, *argv)
    assert yaml.safe_load((path.parents[1] / "config.yaml").read_text()) == written

    for command in ("validate", "test", "predict"):
        assert config("--config", path.parents[1] / "config.yaml", command=command)["data"] == written["data"], (
            "a run's config serves them all"
        )
        assert config("--ckpt_path", path.parents[1], command=command)["ckpt_path"] == str(path), (
            "a run folder stands for its newest"
        )
        taken = config("--ckpt_path", path, "--model.temperature", 0.4, command=command)
        assert (
            taken["data"] == written["data"]
            and taken["model"]["init_args"]["encoder"] == written["model"]["init_args"]["encoder"]
        )
        assert taken["model"]["init_args"]["temperature"] == 0.4, "the command line wins over the checkpoint"

    assert fit("--resume", "auto", *argv, "--trainer.max_steps", 3) == 0
    assert f"Resuming from {path}" in capsys.readouterr().out
    newest = max(tmp_path.glob("simclr-digits/*/checkpoints/*.ckpt"), key=os.path.getmtime)
    resumed = yaml.safe_load(torch.load(newest, weights_only=True)["config"])
    assert resumed["ckpt_path"] is None and "resume" not in resumed, "the config is the run's, not how it was started"
    assert torch.load(newest, weights_only=True)["global_step"] == 3


def test_resume_goes_on_from_the_checkpoint(fit, tmp_path, capsys):
    assert fit("--trainer.max_steps", 1, model="quick") == 0
    path = next(tmp_path.glob("quick-digits/*/checkpoints/*.ckpt"))
    capsys.readouterr()
    for resume in ("auto", path):  # one step was to be done and is done: another one would raise
        assert fit("--trainer.max_steps", 1, "--model.broken", "key", "--resume", resume, model="quick") == 0
    assert f"Resuming from {path}" in capsys.readouterr().out
