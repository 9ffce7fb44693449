"""`trainyard`, and `kubectl trainyard`: finds the command, runs it, turns errors into sentences.

Only click and what click imports anyway is imported here, so that help is there in a tenth of a
second; a command's module is loaded when it is asked for, and it loads kubernetes, boto3, pydantic,
yaml or rich when it needs them.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from trainyard.errors import ClientError, Exit, Interrupted, UsageError, as_client_error
from trainyard.options import common_options, initial_settings, merged, write_options

COMMANDS = {
    "run": "Run a job on this machine: processes instead of pods.",
    "submit": "Send a job to the cluster, then watch it.",
    "get": "List jobs, or tell one job's story.",
    "watch": "Follow a job until it ends.",
    "logs": "Print a job's logs, from its pods or from storage.",
    "checkpoints": "List a job's checkpoints.",
    "fetch": "Download a checkpoint, logs, metrics or the report.",
    "compare": "Final metrics of ended jobs side by side.",
    "evaluate": "Evaluate a trained model on this machine.",
    "predict": "Let a trained model look at new files.",
    "export": "Write a trained model as a program of torch.export.",
    "suspend": "Stop a job after a checkpoint; it can go on later.",
    "resume": "Let a suspended job go on.",
    "delete": "Delete a job; what it stored stays.",
    "recipes": "List the recipes that can be run.",
    "config": "Show or check the configuration of a job.",
    "synth": "Write stand-in data for a recipe.",
    "convert": "Turn a Kubeflow PyTorchJob into a TrainingJob.",
    "data": "Make small data sets to try things with.",
    "completion": "Print the completion script of a shell.",
    "version": "Print the version.",
}

WIDEST_HELP = 100


class LazyGroup(click.Group):
    """A group whose commands are modules, loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order in which they are mostly needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"trainyard.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command named."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            alike = [name for name in COMMANDS if name[0] == args[0][:1]]
            near = difflib.get_close_matches(args[0], alike, n=1)
            help_text = f"trainyard {near[0]} --help" if near else "trainyard --help"
            raise UsageError(f"there is no command '{args[0]}'", help_text)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, so that help imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first: they are what is looked for."""
        self.format_commands(ctx, formatter)
        write_options(ctx, formatter, "Options of every command", self.params)


def _start(**params: Any) -> None:
    ctx = click.get_current_context()
    ctx.obj = merged(ctx.obj or initial_settings(), params)


def build_group() -> LazyGroup:
    """The whole command line."""
    return LazyGroup(
        "trainyard",
        params=common_options(),
        callback=_start,
        help="Train PyTorch models on a shared Kubernetes cluster and never lose a step.",
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": help_width()},
        epilog="JOB is a name, or @last for what was started last. Exit codes: docs/cli.md.",
    )


def help_width() -> int:
    """Columns of a help page, 50 to 98: as click finds it, without shutil and its compressors."""
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size().columns
    except (ValueError, OSError):
        columns = 80
    return max(min(columns, WIDEST_HELP) - 2, 50)


def program_name() -> str:
    """What a person typed: trainyard, or kubectl trainyard."""
    is_plugin = sys.argv[0].rpartition(os.sep)[2].startswith("kubectl")
    return "kubectl trainyard" if is_plugin else "trainyard"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of both programs; leaves with one of the frozen exit codes."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code, errors printed."""
    try:
        result = build_group().main(
            list(arguments), prog_name=program_name(), standalone_mode=False
        )
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except BrokenPipeError:
        # The reader has left, as `| head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OTHER
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        return _report(error, arguments)
    return result if isinstance(result, int) else Exit.DONE


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    """Print an error as a sentence, a JSON object, or with -vv a traceback; its exit code."""
    found = _translated(error)
    if _given(arguments, "-vv") or arguments.count("-v") >= 2:
        import traceback

        traceback.print_exception(error)
    if _wants_json(arguments):
        import json

        click.echo(json.dumps(found.to_dict()), err=True)
        return found.exit_code
    click.echo(f"error: {found.message}", err=True)
    for line in found.details:
        click.echo(f"  | {line}", err=True)
    if found.help:
        click.echo(f"help: {found.help}", err=True)
    return found.exit_code


def _translated(error: BaseException) -> ClientError:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted("interrupted")
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else program_name()
        message = error.format_message().rstrip(".")
        return UsageError(message[:1].lower() + message[1:], f"{path} --help")
    if known := as_client_error(error):
        return known
    return ClientError(
        f"unexpected {type(error).__name__}: {error}", "the same command with -vv, for a report"
    )


def _given(arguments: Sequence[str], option: str) -> bool:
    return any(argument == option for argument in arguments)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Even where the command line could not be parsed."""
    text = " ".join(arguments)
    return any(f"{flag}json" in text for flag in ("-o ", "-o", "--output ", "--output="))


if __name__ == "__main__":
    main()
