"""`trainyard completion`."""

import click

from trainyard.options import Settings, Verb
from trainyard.output import say

_VARIABLE = "_TRAINYARD_COMPLETE"


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def command(settings: Settings, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    For bash: eval "$(trainyard completion bash)" in ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from trainyard.cli import build_group

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    say(found(build_group(), {}, "trainyard", _VARIABLE).source())
