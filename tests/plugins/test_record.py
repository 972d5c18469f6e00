"""What was built can be built again from plain values, and a config can build nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ssl_lightning.methods.simclr import SimCLR
from torch import nn

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.timm import TimmEncoder
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import Recorded, config_of
from ssl_lightning.testing import TinyEncoder, TinyImages


class Thing(Recorded):
    def __init__(self, a: Any, b: Any = 2, *rest: Any, c: Any = "three", **more: Any) -> None:
        self.built_with = (a, b, c, more)


class Heir(Thing):
    """Has no `__init__` of its own."""


class Wrapper(Thing):
    def __init__(self, inner: Any = None, *, size: int = 1, **kwargs: Any) -> None:
        super().__init__(size + 1, c=inner, **kwargs)


class Fetches(Recorded):
    """Downloads, unless weights come from a checkpoint."""

    def __init__(self, inner: Any = None, pretrained: bool = False) -> None:
        self.inner, self.pretrained = inner, pretrained

    @classmethod
    def offline_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        return {**init_args, "pretrained": False}


def test_arguments_are_recorded_however_they_are_given_with_the_defaults_of_the_day() -> None:
    """A later change of a default does not change what a checkpoint rebuilds."""
    assert Thing(1).init_args == {"a": 1, "b": 2, "c": "three"}
    assert Thing(1, 5, c=None).init_args == {"a": 1, "b": 5, "c": None}
    assert Thing(a=1, extra=0.5).init_args == {"a": 1, "b": 2, "c": "three", "extra": 0.5}


def test_the_outermost_class_records_its_own_arguments_not_those_it_hands_on() -> None:
    wrapper = Wrapper(size=4, b=9)
    assert wrapper.init_args == {"inner": None, "size": 4, "b": 9}
    assert wrapper.built_with == (5, 9, None, {})
    method = SimCLR(TinyEncoder(dim=4), temperature=0.1, lr=0.5)
    assert (
        method.init_args["lr"] == 0.5 and "optimizer" not in method.init_args and method.encoder.init_args == {"dim": 4}
    )


def test_a_subclass_without_a_constructor_of_its_own_is_recorded_as_itself() -> None:
    twin = rebuild(config_of(Heir(1, c=[2])))
    assert type(twin) is Heir
    assert twin.built_with == (1, 2, [2], {})


def test_containers_are_recorded_as_copies_and_paths_as_text() -> None:
    widths, nested = [1, 2], {"deep": {"list": [3]}}
    thing = Thing(widths, nested, c=(4, Path("some/where")))
    widths.append(9)
    nested["deep"]["list"].append(9)
    assert thing.init_args == {"a": [1, 2], "b": {"deep": {"list": [3]}}, "c": [4, "some/where"]}
    assert thing.built_with[2] == (4, Path("some/where")), "the constructor itself gets what was given"


def test_a_number_of_numpy_is_recorded_as_pythons() -> None:
    assert yaml.safe_dump(config_of(Thing(np.float64(0.5)))["init_args"]["a"]) == yaml.safe_dump(0.5)


@pytest.mark.parametrize(
    "value", [torch.zeros(2), nn.Linear(1, 1), [1, {"x": len}], {1: "a key that is no text"}, {1, 2}, TinyEncoder, 1j]
)
def test_an_argument_that_cannot_be_recorded_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Thing\(c=\.\.\.\) is a .*cannot record"):
        Thing(1, c=value)
    with pytest.raises(TypeError, match=r"Thing\(odd=\.\.\.\)"):
        Thing(1, odd=value)


def test_positional_arguments_without_names_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Thing takes \*rest"):
        Thing(1, 2, 3)


def test_a_wrong_argument_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="dimension"):
        TinyEncoder(dimension=3)  # type: ignore[call-arg]


def test_the_config_goes_through_yaml_and_builds_an_equal_object() -> None:
    method = SimCLR(TinyEncoder(dim=4), hidden_dim=16, temperature=0.1, optimizer="sgd")
    config = yaml.safe_load(yaml.safe_dump(config_of(method)))
    assert config["init_args"]["encoder"] == {
        "class_path": "ssl_lightning.testing.tiny.TinyEncoder",
        "init_args": {"dim": 4},
    }
    twin = rebuild(config)
    assert config_of(twin) == config
    assert twin.temperature == 0.1 and twin.optimizer_spec.name == "sgd" and twin.encoder.dim == 4
    twin.load_state_dict(method.state_dict())


def test_recorded_objects_are_found_in_lists_and_dicts() -> None:
    data = TinyImages(probe_sets={"other": TinyImages(samples=32, seed=3)})
    twin = rebuild(config_of(data))
    assert twin.probe_sets["other"].samples == 32 and twin.probe_sets["other"].seed == 3
    listed = rebuild(config_of(Thing([Thing(1), {"k": Heir(2)}])))
    assert type(listed.built_with[0][1]["k"]) is Heir and listed.built_with[0][0].built_with[0] == 1


def test_a_rebuild_downloads_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(Fetches(Fetches(pretrained=True), pretrained=True))
    offline, online = rebuild(config), rebuild(config, offline=False)
    assert not offline.pretrained and not offline.inner.pretrained
    assert online.pretrained and online.inner.pretrained
    config = {
        "class_path": "ssl_lightning.encoders.timm.TimmEncoder",
        "init_args": {"name": "resnet18", "pretrained": True},
    }
    monkeypatch.setattr(
        "timm.create_model",
        lambda *args, pretrained, **options: nn.Module() if not pretrained else pytest.fail("downloads"),
    )
    monkeypatch.setattr(nn.Module, "head_hidden_size", 1, raising=False)
    assert type(rebuild(config)) is TimmEncoder


# What a config must not do.


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that exists once the module `evil_canary.deep` or its package has been imported, or
    `Evil` was built."""
    sang, package = tmp_path / "sang", tmp_path / "evil_canary"
    package.mkdir()
    sing = f"open({str(sang)!r}, 'w').close()\n"
    (package / "__init__.py").write_text(sing)
    (package / "deep.py").write_text(
        f"from ssl_lightning.plugins.record import Recorded\n{sing}class Evil(Recorded):\n    def __init__(self,"
        f" a=1):\n        {sing}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield sang
    for name in [name for name in sys.modules if name.partition(".")[0] == "evil_canary"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "path",
    ["evil_canary.deep.Evil", "evil_canary.Evil", "evil_canary.deep", "evil_canary", "Evil", "", "os.system",
     "builtins.eval", "subprocess.Popen",
     "torch.nn.Linear", "ssl_lightning.plugins.record.importlib.import_module", "ssl_lightning.plugins.record.rebuild",
     "ssl_lightning.run.checkpoints.encoder_file.Path",
     "ssl_lightning.no_such_module.Thing", "ssl_lightning.testing.NoSuchEncoder", "ssl_lightning", "..Evil", ".Evil"],
)  # fmt: skip
def test_only_what_belongs_here_is_built(canary: Path, path: str) -> None:
    config = {"class_path": path, "init_args": {"a": f"open({str(canary)!r}, 'w')"}}
    for where in (
        config,
        [config],
        {"class_path": "ssl_lightning.methods.simclr.SimCLR", "init_args": {"encoder": config}},
        {"deep": [{"er": config}]},
    ):
        with pytest.raises(ValueError, match=r"^The config names"):
            rebuild(where)
    assert not canary.exists() and not any(name.startswith("evil_canary") for name in sys.modules)


def test_what_is_trusted_by_name_is_built_and_the_refusal_says_how(canary: Path) -> None:
    config = {"class_path": "evil_canary.deep.Evil"}
    with pytest.raises(ValueError, match=r"trust=\['evil_canary'\]"):
        rebuild(config)
    with pytest.raises(ValueError, match="neither"):
        rebuild(config, trust=["evil", "evil_canary_too"])
    assert type(rebuild(config, trust=["evil_canary"])).__name__ == "Evil"
    assert canary.exists(), "the canary does sing"


def test_the_inner_config_is_judged_before_the_outer_class_is_built(canary: Path) -> None:
    built: list[Any] = []

    class Watch(Recorded):
        def __init__(self, inner: Any = None) -> None:
            built.append(inner)

    Watch.__qualname__ = "Watch"
    sys.modules[__name__].Watch = Watch  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="evil_canary"):
        rebuild({"class_path": f"{__name__}.Watch", "init_args": {"inner": {"class_path": "evil_canary.deep.Evil"}}})
    assert not built and not canary.exists()


def test_a_class_that_no_config_can_name_says_so() -> None:
    class Local(Encoder):
        def __init__(self) -> None:
            super().__init__()

        def forward(self, view: Any) -> Any:
            return view.x

    with pytest.raises(ValueError, match="inside a function"):
        rebuild(config_of(Local()))
