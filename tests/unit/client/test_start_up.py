import subprocess
import sys

import pytest

HEAVY = ["kubernetes", "boto3", "pydantic", "rich", "yaml", "torch"]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["get", "--help"]])
def test_help_loads_no_library_but_click(arguments: list[str]) -> None:
    code = (
        "import sys; from trainyard.cli import run; "
        f"code = run({arguments}); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"


def test_every_command_of_the_table_can_be_loaded() -> None:
    import click

    from trainyard.cli import COMMANDS, build_group

    group = build_group()
    context = click.Context(group)
    loaded = {name: group.get_command(context, name) for name in COMMANDS}
    assert {name: command.name for name, command in loaded.items() if command} == {
        name: name for name in COMMANDS
    }


def test_the_package_exports_these_names() -> None:
    import trainyard

    assert sorted(trainyard.__all__) == [
        "CheckpointMissing",
        "Client",
        "ClientError",
        "JobFailed",
        "JobStopped",
        "NotFound",
        "Rejected",
        "WaitTimeout",
        "__version__",
    ]
    assert trainyard.Client.__module__ == "trainyard.sdk"
