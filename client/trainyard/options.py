"""The options that every command has, and where else their values come from."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trainyard.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

OUTPUTS = ("json", "yaml", "wide", "name")
SWEEP_WORDS = ("sweep", "sweeps", "tsw", "trainingsweep", "trainingsweeps")
"""As kubectl takes them: alone for all sweeps, with a name after a slash for one."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a command needs to know beside its own arguments."""

    context: str | None = None
    """kubeconfig context; None: the current one."""
    namespace: str | None = None
    """None: the context's."""
    output: str | None = None
    """json, yaml, wide, name; None: text for people."""
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    timeout: float | None = None
    """Seconds that waiting may take; None: no bound."""

    @property
    def is_structured(self) -> bool:
        """Whether stdout is for a program."""
        return self.output in {"json", "yaml"}

    @property
    def names_cluster(self) -> bool:
        """Whether a cluster was asked for in so many words."""
        return bool(self.context or self.namespace)

    def within(self, namespace: str | None) -> "Settings":
        """The same, where no namespace was asked for in another's."""
        return dataclasses.replace(self, namespace=self.namespace or namespace)


@dataclass(frozen=True, kw_only=True)
class StorageFlags:
    """How a person says where to look."""

    storage: str | None = None
    endpoint: str | None = None
    region: str | None = None
    file: str | None = None


def sweep_name(name: str) -> str | None:
    """The sweep's own name, where a sweep is meant: sweep/NAME. Raises UsageError for `sweep/`."""
    kind, slash, sweep = name.partition("/")
    if not slash or kind not in SWEEP_WORDS:
        return None
    if not sweep:
        raise UsageError(f"'{name}' names no sweep; write {kind}/NAME", "trainyard get sweeps")
    return sweep


class Duration(click.ParamType):
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """`90`, `90s`, `15m`, `24h` as seconds."""
        if isinstance(value, int | float):
            return float(value)
        number, factor = value, 1
        if value and value[-1] in _UNITS:
            number, factor = value[:-1], _UNITS[value[-1]]
        try:
            return float(number) * factor
        except ValueError:
            self.fail(f"'{value}' is no duration; write 90s, 15m or 24h.", param, ctx)


def common_options() -> list[click.Parameter]:
    """A fresh set, for a command or the group."""
    return [
        click.Option(["--context"], metavar="NAME", help="kubeconfig context."),
        click.Option(["-n", "--namespace"], metavar="NAME", help="Namespace of the cluster."),
        click.Option(
            ["-o", "--output"], type=click.Choice(OUTPUTS), help="What stdout is written as."
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Only what was asked for, and errors."),
        click.Option(["-v", "--verbose"], count=True, help="-vv adds tracebacks."),
        click.Option(["--no-color"], is_flag=True, help="As NO_COLOR does."),
        click.Option(["--timeout"], type=Duration(), help="Longest wait, such as 90s or 24h."),
    ]


_NAMES = [field.name for field in dataclasses.fields(Settings)]


def merged(settings: Settings, params: dict[str, Any]) -> Settings:
    """`settings` with the common options taken out of `params` laid over it."""
    given = {name: params.pop(name) for name in _NAMES if name in params}
    return dataclasses.replace(settings, **{key: value for key, value in given.items() if value})


def initial_settings() -> Settings:
    """From TRAINYARD_* and the configuration file, the former first."""
    values = read_config_file()
    for name in ("context", "namespace", "output", "timeout"):
        if text := os.environ.get(f"TRAINYARD_{name.upper()}"):
            values[name] = text
    if "timeout" in values:
        values["timeout"] = Duration().convert(values["timeout"], None, None)
    known = {key: value for key, value in values.items() if key in _NAMES}
    return Settings(**known)


def config_file() -> "Path":
    """Where a person's settings lie."""
    from pathlib import Path

    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "trainyard" / "config.toml"


def read_config_file() -> dict[str, Any]:
    """Its keys, or nothing where there is none."""
    import tomllib

    try:
        return tomllib.loads(config_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise click.UsageError(f"{config_file()}: {error}") from error


class Verb(click.Command):
    """A command with the common options; its function gets a Settings as first argument."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = len(self.params)
        self.params = [*self.params, *common_options()]

    def invoke(self, ctx: click.Context) -> Any:
        """Move the common options into the settings, then run."""
        ctx.obj = merged(ctx.obj or initial_settings(), ctx.params)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first, the common ones under a heading of their own."""
        for title, params in (
            ("Options", self.params[: self._own]),
            ("Options of every command", self.params[self._own :]),
        ):
            write_options(ctx, formatter, title, params)


def write_options(
    ctx: click.Context,
    formatter: click.HelpFormatter,
    title: str,
    params: Sequence[click.Parameter],
) -> None:
    """One block of a help page."""
    records = [record for param in params if (record := param.get_help_record(ctx))]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)
