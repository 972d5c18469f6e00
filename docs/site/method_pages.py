"""What a method's page shows of its code: idea, arguments, optimizers, alarms, configs.

The hand-written part, docs/methods/NAME.md, has formula, advice and a healthy curve.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from docstrings import arguments, inline, parse, table

from ssl_lightning import SSLMethod
from ssl_lightning.cli.configs import row, shipped
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor, remedy_of
from ssl_lightning.optim.recipes import OptimizerSpec
from ssl_lightning.testing.methods import tiny_encoder

DISTRIBUTION = "ssl-lightning"


def methods() -> dict[str, type[SSLMethod]]:
    """The methods that ship, by name; those of other packages are left out."""
    group = entry_points(group="ssl_lightning.methods")
    return {each.name: each.load() for each in group if each.dist and each.dist.name == DISTRIBUTION}


def configs() -> list[dict[str, Any]]:
    """What there is to know of each config that ships, in the order of their names."""
    return [row(name, path, with_command=True) for name, path in shipped().items()]


def complete(name: str, method: type[SSLMethod], written: str) -> str:
    """A method's page: what its code says, around the hand-written part.

    Args:
        name: the method's name on the command line.
        method: its class.
        written: the page as it is in docs/methods; "": there is none.
    """
    title, _, rest = written.partition("\n")
    parts = [title or f"# {method.__name__}", parse(method).text, rest.strip(), *_generated(name, method)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _generated(name: str, method: type[SSLMethod]) -> list[str]:
    built = method(tiny_encoder(method))
    return [
        "## Arguments",
        f"On the command line `--model {name} --model.ARGUMENT VALUE`.",
        table(("argument", "default", "what"), _arguments(method)),
        "Every method also takes those of [`SSLMethod`](../reference.md#sslmethod), such as `optimizer` and `lr`.",
        "## Optimizers",
        "`--model.optimizer NAME` chooses one; the first is the default.",
        table(("name", "settings"), _optimizers(method)),
        "## Alarms",
        f"What a run of `{name}` is warned of, beside what warns every run"
        " ([while a run goes on](../reliability.md#while-a-run-goes-on)).",
        table(("logged value", "healthy", "outside of that", "what to do"), _alarms(built)),
        *_configs(name),
    ]


def _arguments(method: type[SSLMethod]) -> list[tuple[str, ...]]:
    """Its own arguments, and those of classes between it and `SSLMethod`; a name once."""
    rows: dict[str, tuple[str, ...]] = {}
    for each in method.__mro__[: method.__mro__.index(SSLMethod)]:
        for argument in arguments(each):
            rows.setdefault(argument[0], argument)
    return list(rows.values())


def _optimizers(method: type[SSLMethod]) -> list[tuple[str, ...]]:
    usual = OptimizerSpec()
    rows = []
    for name, spec in method.optimizer_specs.items():
        settings = {key: getattr(spec, key) for key in OptimizerSpec.__dataclass_fields__}
        shown = [f"{key} {value}" for key, value in settings.items() if value != getattr(usual, key) or key == "lr"]
        rows.append((f"`{name}`", inline(", ".join(shown))))
    return rows


def _alarms(method: SSLMethod) -> list[tuple[str, ...]]:
    remedy = remedy_of(method)
    monitor = CollapseMonitor().alarms_with(remedy)
    rows = []
    for alarm in (*method.alarms, *monitor):
        low = "" if alarm.low is None else f"at least {alarm.low:g}"
        high = "" if alarm.high is None else f"at most {alarm.high:g}"
        healthy = ", ".join(filter(None, (low, high)))
        rows.append((f"`{alarm.metric}`", healthy, inline(alarm.cause), inline(alarm.remedy)))
    return rows


def _configs(name: str) -> list[str]:
    rows = [
        (
            f"[`{each['name']}`](../configs.md#{each['name'].replace('/', '')})",
            inline(each["needs"]),
            inline(each["score"]),
        )
        for each in configs()
        if each["name"].startswith(f"{name}/")
    ]
    return ["## Configs that ship", table(("config", "needs", "score"), rows)] if rows else []
