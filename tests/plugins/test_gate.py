"""Files that run nothing: whatever a config in a checkpoint or an encoder's file names, no foreign
module is imported, no other class is built, and no text is read as more than text."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.methods.byol import BYOL
from ssl_lightning.methods.simclr import SimCLR
from torch import nn

from ssl_lightning import Encoder, SSLMethod, load, load_encoder
from ssl_lightning.cli.main import main
from ssl_lightning.plugins import gate
from ssl_lightning.plugins.archive import is_whole, read
from ssl_lightning.plugins.arguments import argument_types, kinds_of, parameters
from ssl_lightning.plugins.rebuild import rebuild, rebuild_for
from ssl_lightning.plugins.record import GROUPS, Recorded
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.testing import TinyEncoder

ENCODER = {"class_path": "ssl_lightning.encoders.conv.ConvEncoder", "init_args": {"width": 4}}
MODEL = {"class_path": "ssl_lightning.methods.simclr.SimCLR", "init_args": {"encoder": ENCODER}}
DATA = {"class_path": "ssl_lightning.datamodules.digits.Digits", "init_args": {}}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that exists once the module `canarymod` was imported, or a command was run."""
    sang = tmp_path / "sang"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "canarymod.py").write_text(
        f"from ssl_lightning import Encoder\nopen({str(sang)!r}, 'w').close()\n\nclass Boom(Encoder):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    yield sang
    sys.modules.pop("canarymod", None)


@pytest.fixture
def command(canary: Path) -> dict[str, Any]:
    """A config that runs a command when it is built."""
    arguments = {"args": [sys.executable, "-c", f"open({str(canary)!r}, 'w').close()"]}
    return {"class_path": "subprocess.Popen", "init_args": arguments}


def checkpoint(folder: Path, model: Any = MODEL, data: Any = DATA) -> Path:
    """A checkpoint with a config, which is all that is read of it before it is refused."""
    path = folder / "crafted.ckpt"
    text = model if isinstance(model, str) else yaml.safe_dump({"model": model, "data": data})
    torch.save({"config": text, "state_dict": {}}, path)
    return path


def doors(bad: Any, folder: Path) -> dict[str, tuple[Any, Any]]:
    """Places of a config where something may be built: (model, data)."""
    (folder / "bad.yaml").write_text(yaml.safe_dump(bad))
    text, path = json.dumps(bad), str(folder / "bad.yaml")

    def model(**init_args: Any) -> Any:
        return {**MODEL, "init_args": {"encoder": ENCODER, **init_args}}

    def data(**init_args: Any) -> Any:
        return {**DATA, "init_args": init_args}

    return {
        "model": (bad, DATA),
        "data": (MODEL, bad),
        "encoder": (model(encoder=bad), DATA),
        "encoder as text": (model(encoder=text), DATA),
        "encoder as a file": (model(encoder=path), DATA),
        "class as text": (model(encoder=bad["class_path"]), DATA),
        "number": (model(temperature=bad), DATA),
        "number as text": (model(temperature=text), DATA),
        "dict": (MODEL, data(augmentation=bad)),
        "in a dict": (MODEL, data(augmentation={"blur_p": bad})),
        "deep in a dict": (MODEL, data(augmentation={"blur_p": [{"x": bad}]})),
        "dict as text": (MODEL, data(augmentation=text)),
        "in a dict as text": (MODEL, data(augmentation={"blur_p": text})),
        "dict as a file": (MODEL, data(augmentation=path)),
        "in a dict as a file": (MODEL, data(augmentation={"blur_p": path})),
        "probe set": (MODEL, data(probe_sets={"other": bad})),
        "probe set as text": (MODEL, data(probe_sets={"other": text})),
        "probe sets as text": (MODEL, data(probe_sets=json.dumps({"other": bad}))),
        "class as a dict": ({"class_path": bad}, DATA),
        "dict_kwargs": ({**MODEL, "dict_kwargs": {"x": bad}}, DATA),
    }


DOORS = list(doors({"class_path": ""}, Path("/tmp")))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["command", pytest.param("import", marks=pytest.mark.slow)])
def test_a_checkpoint_runs_nothing(
    door: str, kind: str, command: dict[str, Any], canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = command if kind == "command" else {"class_path": "canarymod.Boom"}
    path = checkpoint(tmp_path, *doors(bad, tmp_path)[door])
    assert main(["test", "--ckpt_path", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ssl-lightning test: error: ") and err.count("\n") == 1, err
    with pytest.raises(ValueError, match="crafted"):
        load(path)
    assert not canary.exists() and "canarymod" not in sys.modules


def test_the_canary_sings(command: dict[str, Any], canary: Path) -> None:
    subprocess.Popen(**command["init_args"]).wait()
    assert canary.exists()
    canary.unlink()
    __import__("canarymod")
    assert canary.exists()


@pytest.mark.parametrize(
    "config",
    ["command", {"class_path": "canarymod.Boom"}, {"class_path": "imaplib.IMAP4_stream", "init_args": {"command": "x"}},
     {"class_path": "ssl_lightning.cli.__main__.main"}, {"class_path": "ssl_lightning.cli.main.main"}],
)  # fmt: skip
def test_an_encoders_file_runs_nothing(
    config: Any, command: dict[str, Any], canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither where it is loaded, nor where a run starts from it."""
    path = tmp_path / "encoder.safetensors"
    text = json.dumps(command if config == "command" else config)
    save_file(TinyEncoder().state_dict(), path, metadata={"encoder": text})
    with pytest.raises(ValueError, match="names"):
        load_encoder(path)
    for method in ("linear_probe", "finetune"):
        assert main(["fit", "--model", method, "--data", "digits", "--model.checkpoint", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not canary.exists() and "canarymod" not in sys.modules


def test_the_data_that_a_run_describes_takes_only_its_settings(
    command: dict[str, Any], canary: Path, tmp_path: Path
) -> None:
    from ssl_lightning.data.sound.settings import arguments_in

    text = json.dumps({"sample_rate": 8000, "augmentation": command, "root": str(tmp_path), "varies": False})
    assert arguments_in(text) == {"sample_rate": 8000}


@pytest.mark.parametrize("value", ["dict", "text"])
def test_a_plain_value_of_the_users_own_config_is_not_built(
    value: str, command: dict[str, Any], canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blur = command if value == "dict" else json.dumps(command)
    config = {"model": "simclr", "data": {"class_path": "digits", "init_args": {"augmentation": {"blur_p": blur}}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true"]) == 2
    assert "augmentation" in capsys.readouterr().err
    assert not canary.exists()


def test_what_the_user_names_may_be_named_by_the_file(canary: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {**MODEL, "init_args": {"encoder": {"class_path": "canarymod.Boom"}}})
    main(["test", "--ckpt_path", str(path), "--model.encoder", "canarymod.Boom"])
    assert canary.exists()


# Bounds.

LEVELS = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
BOMBS: dict[str, Callable[[], str]] = {
    "anchors": lambda: "\n".join(["model: 1", "a0: &a0 [1]", *LEVELS]),
    "merges": lambda: "\n".join(
        ["model: 1", "m0: &m0 {x: 1}", *(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}" for i in range(1, 40))]
    ),
    "deep lists": lambda: "model: " + "[" * 100_000,
    "deep dicts": lambda: "model: " + "{a: " * 100_000,
    "deep blocks": lambda: "\n".join(" " * i + "a:" for i in range(2_000)),
    "long": lambda: "model: " + "x" * (gate.LONGEST + 1),
    "many": lambda: "model: [" + "1, " * (gate.MOST + 1) + "]",
    "binary": lambda: "model: \x00",
    "object": lambda: "model: !!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_config_larger_than_any_is_refused_at_once(
    bomb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(tmp_path, BOMBS[bomb]())
    start = time.process_time()
    assert main(["test", "--ckpt_path", str(path)]) == 2
    assert time.process_time() - start < 20
    err = capsys.readouterr().err
    assert "crafted.ckpt" in err and err.count("\n") == 1 and len(err) < 1000, err[:2000]


def test_deep_json_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "NaN"):
        save_file(TinyEncoder().state_dict(), tmp_path / "e.safetensors", metadata={"encoder": text})
        with pytest.raises(ValueError, match=r"e\.safetensors"):
            load_encoder(tmp_path / "e.safetensors")


class Wide(Encoder):
    """As wide, and as deep, as the config says."""

    def __init__(self, width: int = 2, depth: int = 1, kept: Any = None) -> None:
        super().__init__()
        self.dim = width
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.register_buffer("table", torch.zeros(width, width))

    def forward(self, view: Any) -> Any:
        return view.x


@pytest.mark.parametrize("arguments", [{"width": 10**6}, {"depth": 10**6}, {"width": 10**18}, {"width": -1}])
def test_a_network_far_larger_than_its_weights_is_not_built(arguments: dict[str, Any]) -> None:
    config = {"class_path": f"{__name__}.Wide", "init_args": arguments}
    start = time.process_time()
    with pytest.raises(ValueError, match=r"far larger than its weights|cannot be built"):
        rebuild_for(Wide().state_dict(), config, Encoder, "an encoder", where="The file")
    assert time.process_time() - start < 20


def test_what_is_rebuilt_for_its_weights_has_them() -> None:
    torch.manual_seed(0)
    weights = Wide(3, 2).state_dict()
    config = {"class_path": f"{__name__}.Wide", "init_args": {"width": 3, "depth": 2}}
    built = rebuild_for(weights, config, Encoder, "an encoder")
    assert all(torch.equal(built.state_dict()[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ValueError, match=r"weights in The file do not fit the Wide .*Missing key"):
        rebuild_for({}, config, Encoder, "an encoder", where="The file")


@pytest.mark.parametrize(
    "arguments",
    [{"width": "wide"}, {"width": [2]}, {"width": None}, {"depth": {}}, {"wdith": 2}, {"width": 2.5}, {"width": True}],
)
def test_values_of_the_wrong_type_are_named_with_their_class(arguments: dict[str, Any]) -> None:
    config = {"class_path": f"{__name__}.Wide", "init_args": arguments}
    try:
        assert isinstance(rebuild(config), Wide)
    except ValueError as error:
        assert "Wide" in str(error) and "\n" not in str(error)


# What is judged by types needs types: of every argument of every class that is installed.


def everything() -> Iterator[tuple[type, str]]:
    for group in GROUPS:
        registry = Registry(group)
        for name, plugin in registry.plugins.items():
            if plugin.package == "ssl-lightning":
                for argument in parameters(registry[name]):
                    yield registry[name], argument


def test_every_argument_of_the_built_in_classes_is_judged_by_its_type(tmp_path: Path) -> None:
    bad = {"class_path": "subprocess.Popen"}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    pairs = list(everything())
    assert len(pairs) > 150
    for cls, argument in pairs:
        assert argument in argument_types(cls) and argument_types(cls)[argument] is not Any, (cls, argument)
        for value in (bad, [bad], {"x": bad}, {"x": [bad]}):
            with pytest.raises(ValueError, match=r"names 'subprocess\.Popen'"):
                gate.judge_arguments(cls, {argument: value}, "The file")
        kinds = set(kinds_of(argument_types(cls)[argument]))
        plain = kinds <= {str, gate.PurePath, type(None), bool, int, float}
        for text in (json.dumps(bad), "class_path: subprocess.Popen", str(tmp_path / "bad.yaml")):
            if plain:  # the parser leaves it as it is
                gate.judge_arguments(cls, {argument: text}, "The file")
            else:
                with pytest.raises(ValueError, match=r"The file gives"):
                    gate.judge_arguments(cls, {argument: text}, "The file")


def test_what_runs_record_passes() -> None:
    """Each default of each class, as a checkpoint holds it."""
    for cls, argument in everything():
        default = parameters(cls)[argument].default
        if default is not parameters(cls)[argument].empty and not isinstance(default, Recorded):
            gate.judge_arguments(cls, {argument: list(default) if isinstance(default, tuple) else default}, "It")


# Archives.


def repacked(path: Path, folder: Path, compression: int, extra: int = 0) -> Path:
    """The same archive, compressed, with further bytes that compress well."""
    target = folder / "repacked.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
        with new.open("archive/data/bomb", "w", force_zip64=True) as file:
            for _ in range(extra >> 20):
                file.write(bytes(1 << 20))
    return target


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused_at_once(tmp_path: Path) -> None:
    path = repacked(checkpoint(tmp_path), tmp_path, zipfile.ZIP_DEFLATED, extra=256 << 20)
    assert path.stat().st_size < 2 << 20
    start = time.process_time()
    with pytest.raises(ValueError, match=r"repacked\.ckpt' is not a whole checkpoint"):
        load(path)
    assert time.process_time() - start < 0.5
    assert not is_whole(path)


def test_tensors_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "crafted.ckpt"
    torch.save({"state_dict": {"x": torch.zeros(1).expand(1 << 40)}}, path)
    with pytest.raises(ValueError, match="far larger than itself"):
        read(path)
    shared = torch.zeros(1000)
    torch.save({"state_dict": {str(number): shared for number in range(10)}}, path)
    assert len(read(path)["state_dict"]) == 10


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run."""
    root = tmp_path_factory.mktemp("runs")
    options = "--trainer.max_steps 2 --report.enabled false --trainer.accelerator cpu --model.encoder.width 4"
    options += f" --online_probe.enabled false --knn_probe.enabled false --trainer.default_root_dir {root}"
    argv = ["fit", "--model", "simclr", "--data", "digits", "--model.encoder", "conv", *options.split()]
    assert main(argv) == 0
    return next(root.glob("*/*/checkpoints/*.ckpt"))


def damage(content: dict[str, Any], how: str) -> None:
    weights, optimizer = content["state_dict"], content["optimizer_states"][0]
    match how:
        case "unexpected weights":
            weights |= {f"none.{number}": torch.zeros(1) for number in range(100)}
        case "missing weights":
            content["state_dict"] = dict(list(weights.items())[:1])
        case "narrower weights":
            content["state_dict"] = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in weights.items()}
        case "weights of text":
            content["state_dict"] = dict.fromkeys(weights, "text")
        case "no optimizer":
            content["optimizer_states"] = []
        case "ragged optimizer":
            optimizer["param_groups"] = optimizer["param_groups"][:1]
        case "optimizer of text":
            content["optimizer_states"] = ["text"]
        case "no loops":
            content["loops"] = {}
        case "loops of lists":
            content["loops"] = {"fit_loop": {"state_dict": []}}
        case "no version":
            del content["pytorch-lightning_version"]
        case "callbacks of text":
            content["callbacks"] = dict.fromkeys(content["callbacks"], "text")
        case "callbacks of nothing":
            content["callbacks"] = {name: {} for name in content["callbacks"]}
        case "a list of callbacks":
            content["callbacks"] = [1]
        case "data of text":
            content["Digits"] = "text"
        case "schedulers":
            content["lr_schedulers"] = [{}]


DAMAGES = ("unexpected weights", "missing weights", "narrower weights", "weights of text", "no optimizer",
           "ragged optimizer", "optimizer of text", "no loops", "loops of lists", "no version", "callbacks of text",
           "callbacks of nothing", "a list of callbacks", "data of text", "schedulers")  # fmt: skip


@pytest.mark.by_default(4)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_checkpoint_with_ragged_or_missing_parts_is_one_line(
    how: str, ended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(ended, weights_only=True)
    damage(content, how)
    path = tmp_path / "crafted.ckpt"
    torch.save(content, path)
    capsys.readouterr()
    argv = ["fit", "--config", str(ended.parents[1] / "config.yaml"), "--trainer.max_steps", "3", "--resume", str(path)]
    try:
        code = main([*argv, "--trainer.default_root_dir", str(tmp_path)])
    except Exception as error:  # what would be a traceback
        pytest.fail(f"{type(error).__name__}: {error}")
    err = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert code in (0, 2) and len(err) == (code == 2), err
    assert not err or len(err[0]) < 700


@pytest.mark.parametrize("nested", [True, False])
def test_lightnings_own_way_from_a_checkpoint_runs_nothing(
    nested: bool, command: dict[str, Any], canary: Path, tmp_path: Path
) -> None:
    """Lightning 21822: a checkpoint's hyperparameters name what builds the class."""
    path = checkpoint(tmp_path)
    content = torch.load(path, weights_only=True)
    config = {**command["init_args"], "_class_path": "subprocess.Popen"}
    if nested:
        config = {"_class_path": MODEL["class_path"], "encoder": command}
    content["hyper_parameters"] = {"_instantiator": "pytorch_lightning.cli.instantiate_module", **config}
    content["datamodule_hyper_parameters"] = content["hyper_parameters"]
    torch.save(content, path)
    for cls in (SSLMethod, SimCLR):
        with pytest.raises(ValueError, match="do not fit the SimCLR"):
            cls.load_from_checkpoint(path)
    with pytest.raises(NotImplementedError, match="inspect"):
        Digits.load_from_checkpoint(path)
    assert not canary.exists()


def test_a_method_is_loaded_by_lightnings_name_for_it_too(ended: Path) -> None:
    loaded = SimCLR.load_from_checkpoint(ended)
    weights = torch.load(ended, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.state_dict().items())
    with pytest.raises(ValueError, match="holds a SimCLR, not a BYOL"):
        BYOL.load_from_checkpoint(ended)
    with pytest.raises(TypeError, match="alone"):
        SimCLR.load_from_checkpoint(ended, temperature=1.0)


# A key given twice.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is given twice, in lines 1 and 3"),
        ("a:\n  - {b: 1}\n  - {b: 1, c: {}, b: 2}\n", "the key 'b' is given twice, in lines 3 and 3"),
        ("'a': &x {b: 1}\n\"a\": *x\n", "the key 'a' is given twice, in lines 1 and 2"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_its_lines(text: str, message: str) -> None:
    """YAML's loaders take the last without a word."""
    with pytest.raises(ValueError, match=message):
        gate.read_yaml(text, "config.yaml")


def test_json_is_held_to_the_same() -> None:
    with pytest.raises(ValueError, match="the key 'a' is given twice"):
        gate.read_json('{"b": {"a": 1, "a": 2}}', "the metadata")


@pytest.mark.parametrize("text", ["a: {b: 1}\nb: {b: [{b: 1}, {b: 2}]}\n", "[a, a]", "a: &x {b: 1}\nc: *x\n", "a: a"])
def test_equal_keys_of_different_mappings_are_none(text: str) -> None:
    gate.read_yaml(text, "config.yaml")


@pytest.mark.parametrize("nested", [False, True])
def test_a_users_config_is_held_to_it_too(nested: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a config that another one names."""
    (tmp_path / "twice.yaml").write_text("class_path: simclr\ninit_args:\n  temperature: 0.1\n  temperature: 0.2\n")
    config = tmp_path / "config.yaml"
    config.write_text("model: twice.yaml\ndata: digits\n" if nested else "model: simclr\ndata: digits\nmodel: byol\n")
    assert main(["fit", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "is given twice, in lines" in error and len(error.splitlines()) == 1
    assert ("twice.yaml" if nested else "config.yaml") in error
