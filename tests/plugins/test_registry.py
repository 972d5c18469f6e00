"""Names are read from metadata and source alone; what is wrong with one plug-in stays with that
plug-in."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ssl_lightning.plugins.registry import BrokenPlugin, ContestedName, Registry, UnknownName

GROUP = "ssl_lightning.methods"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lays out a distribution as pip does: a package folder and its metadata, in a folder of its
    own on sys.path."""
    before = set(sys.modules)

    def make(package: str, entry_points: str, files: dict[str, str], group: str = GROUP, folder: str = "") -> Path:
        root = tmp_path / (folder or package)
        info = root / f"{package}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry_points}\n")
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        monkeypatch.syspath_prepend(str(root))
        return root

    yield make
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("acme", "acme_good", "acme_other"):
            del sys.modules[name]


ACME = {
    "acme/__init__.py": "raise RuntimeError('imported')",
    "acme/one.py": 'class One:\n    """Does one thing.\n\n    More."""\n',
}
GOOD = {"acme/__init__.py": "", "acme/one.py": 'class One:\n    """Does one thing."""\n'}


def test_a_name_gives_the_class(install):
    install("acme", "one = acme.one:One", GOOD)
    registry = Registry(GROUP)
    assert "one" in registry and "one" in list(registry) and len(registry) == len(list(registry))
    assert "acme.one" not in sys.modules, "looking at names must import nothing"
    assert registry.path("one") == "acme.one.One"
    assert registry["one"].__module__ == "acme.one"
    assert registry.name_of("acme.one.One") == "one" and registry.name_of("some.where.Else") == "else"


def test_the_summary_is_read_from_source_where_import_would_raise(install):
    install("acme", "one = acme.one:One", ACME)
    plugin = Registry(GROUP).plugins["one"]
    assert (plugin.summary, plugin.package, plugin.version) == ("Does one thing.", "acme", "1.2")
    assert not {"acme", "acme.one"} & set(sys.modules)


@pytest.mark.parametrize(
    "value, files, expected",
    [
        (
            "acme:Two",
            {"acme/__init__.py": "from .deep.two import Base as Two", "acme/deep/two.py": 'class Base:\n    "Deep."'},
            "Deep.",
        ),
        (
            "acme.two:Two",
            {
                "acme/__init__.py": "",
                "acme/two.py": "from acme import three\nfrom .three import Two",
                "acme/three.py": "",
            },
            "no class",
        ),
        (
            "acme.space.two:Two",
            {"acme/space/two.py": 'class Two:\n    "In a namespace package."'},
            "In a namespace package.",
        ),
        ("acme.two:Outer.Two", {"acme/two.py": 'class Outer:\n    class Two:\n        "Nested."'}, "Nested."),
        ("acme.two:Two", {"acme/two.py": "class Two: pass"}, "(no docstring)"),
        ("acme.two:Two", {"acme/two.py": "class Two"}, "(source does not parse)"),
        ("acme.missing:Two", {"acme/two.py": ""}, "(no module 'acme.missing')"),
    ],
)
def test_summaries_of_unusual_layouts(install, value, files, expected):
    install("acme", f"two = {value}", files)
    assert expected in Registry(GROUP).plugins["two"].summary


def test_built_in_plugins_have_a_summary_and_come_from_this_package():
    for group in ("methods", "datamodules", "encoders"):
        plugins = [p for p in Registry(f"ssl_lightning.{group}").plugins.values() if p.package == "ssl-lightning"]
        assert plugins
        for plugin in plugins:
            assert plugin.version == version("ssl-lightning")
            assert len(plugin.summary) > 10 and not plugin.summary.startswith("("), f"{plugin.name}: {plugin.summary}"


def test_an_unknown_name_is_answered_with_the_nearest(install):
    install("acme", "wonderful = acme.one:One", GOOD)
    with pytest.raises(UnknownName) as raised:
        Registry(GROUP)["Wonderfull"]
    assert isinstance(raised.value, KeyError)
    assert "'Wonderfull'" in str(raised.value) and "Did you mean 'wonderful'?" in str(raised.value)
    assert "simclr" in str(raised.value), "the installed names are listed"


def test_a_broken_plugin_is_named_and_hurts_nobody_else(install):
    install("acme", "one = acme.one:One", ACME)
    install(
        "acme_good", "fine = acme_good:Fine\nvalue = acme_good:VALUE", {"acme_good.py": "class Fine: pass\nVALUE = 3"}
    )
    registry = Registry(GROUP)
    with pytest.raises(
        BrokenPlugin, match=r"'one' of acme 1\.2 \(acme\.one:One\) cannot be imported: RuntimeError: imported"
    ):
        registry["one"]
    with pytest.raises(BrokenPlugin, match=r"'value' of acme-good 1\.2 .* is not a class but 3"):
        registry["value"]
    assert registry["fine"].__name__ == "Fine"


def test_two_packages_with_one_name_are_both_named_and_neither_is_picked(install):
    install("acme", "twin = acme.one:One", GOOD)
    install("Acme_Other", "twin = acme_other:Two", {"acme_other.py": "class Two: pass"})
    registry = Registry(GROUP)
    with pytest.raises(ContestedName) as raised:
        registry["twin"]
    assert "acme 1.2 (acme.one:One)" in str(raised.value) and "acme-other 1.2 (acme_other:Two)" in str(raised.value)
    assert "twin" not in registry and {"acme:twin", "acme-other:twin"} <= set(registry)
    assert registry["acme:twin"].__name__ == "One" and registry["Acme_Other:twin"].__name__ == "Two"
    with pytest.raises(UnknownName):
        registry["acme-third:twin"]


def test_one_distribution_twice_on_the_path_is_one(install):
    install("acme", "one = acme.one:One", GOOD, folder="first")
    install("acme", "one = acme.one:One", GOOD, folder="second")
    assert Registry(GROUP)["one"].__name__ == "One"


def test_a_name_may_be_qualified_where_nobody_contests_it(install):
    install("acme", "one = acme.one:One", GOOD)
    assert Registry(GROUP).path("acme:one") == "acme.one.One"
