import json

import click
import pytest

from trainyard import cli, errors
from trainyard_trainer import storage_errors

FROZEN = {
    "UsageError": 2,
    "NotFound": 3,
    "NotAllowed": 4,
    "Rejected": 5,
    "Unreachable": 6,
    "JobFailed": 10,
    "JobStopped": 11,
    "CheckpointMissing": 12,
    "WaitTimeout": 124,
    "Interrupted": 130,
}


def test_exit_codes_are_frozen() -> None:
    classes = errors.ClientError.__subclasses__()
    assert {cls.__name__: int(cls.exit_code) for cls in classes} == FROZEN
    assert (errors.ClientError.exit_code, errors.Exit.DONE) == (1, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (storage_errors.StorageUnreachable("s3.example", "list", "timed out"), 6),
        (storage_errors.AccessRefused("s3.example", "list", "403"), 4),
        (storage_errors.BucketMissing("s3.example", "lung"), 3),
        (storage_errors.StorageUriInvalid("ftp://x"), 5),
        (storage_errors.CheckpointCorrupt(6000, "model.pt", "differs from its SHA-256"), 12),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (RuntimeError("boom"), 1),
    ],
)
def test_errors_of_others_have_the_same_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "build_group", lambda: click.Command("trainyard", callback=fail))
    assert cli.run([]) == code


def test_an_error_is_a_sentence_and_a_command(trainyard) -> None:
    ran = trainyard("get", "ghost")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "error: there is no job 'ghost' on this machine, and no cluster is configured\n"
        "help: trainyard get\n"
    )


def test_an_error_is_a_document_for_a_program(trainyard) -> None:
    ran = trainyard("get", "ghost", "-o", "json")
    assert (ran.code, ran.out) == (3, "")
    assert json.loads(ran.err) == {
        "error": {
            "code": "NotFound",
            "message": "there is no job 'ghost' on this machine, and no cluster is configured",
            "help": "trainyard get",
        }
    }


def test_an_unforeseen_error_shows_no_traceback(trainyard, monkeypatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(cli, "build_group", lambda: click.Command("trainyard", callback=fail))
    ran = trainyard()
    assert ran.err == (
        "error: unexpected RuntimeError: boom\nhelp: the same command with -vv, for a report\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gte"], "error: there is no command 'gte'\nhelp: trainyard get --help\n"),
        (["bogus"], "error: there is no command 'bogus'\nhelp: trainyard --help\n"),
        (["run"], "error: missing argument 'FILE|RECIPE'\nhelp: trainyard run --help\n"),
        (
            ["watch", "x", "--timeout", "soon"],
            "error: invalid value for '--timeout': 'soon' is no duration; write 90s, 15m or 24h\n"
            "help: trainyard watch --help\n",
        ),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(trainyard, arguments, message, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["trainyard"])
    ran = trainyard(*arguments)
    assert (ran.code, ran.err) == (2, message)
