"""The whole launcher, with ranks that stand in for training; real processes and signals."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import WAIT_SECONDS
from unit.launcher.nodes import RUN_PREFIX, TRAINING, Launch, make_environ, wait_for_lines

from trainyard_operator.contract import Summary

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


def summary_in(folder: Path) -> Summary:
    return Summary.from_json((folder / "termination-log").read_bytes())


def stored_log(folder: Path, name: str) -> str:
    segments = sorted((folder / "storage" / RUN_PREFIX / "logs/a1" / name).glob("*.log.gz"))
    return "".join(gzip.decompress(segment.read_bytes()).decode() for segment in segments)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_ranks_that_end_well_end_the_node_well(tmp_path: Path, launch: Launch) -> None:
    process = launch("succeed", make_environ(tmp_path))
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert "\nrank 0 of 2\n" in output
    assert "\n[rank 1] rank 1 of 2\n" in output
    assert summary_in(tmp_path) == Summary(exit_code=0, message="every rank ended well")
    logged = stored_log(tmp_path, "rank-1")
    assert re.fullmatch(f"{TIME}rank 1 of 2\n{TIME}from below Python\n", logged)
    assert "[node 0] rank 1 exited with code 0\n" in output
    assert " rank 1 exited with code 0\n" in stored_log(tmp_path, "node-0")
    run = json.loads((tmp_path / "storage" / RUN_PREFIX / "run.json").read_text())
    assert (run["job"], run["namespace"], run["recipe"]) == (
        "nodules",
        "research",
        "classification",
    )
    assert list((tmp_path / "scratch").glob("*.pid")) == []


def test_result_counts_once_rank_0_ended_well(tmp_path: Path, launch: Launch) -> None:
    run = tmp_path / "storage" / RUN_PREFIX
    run.mkdir(parents=True)
    (run / "result.json").write_text("{}")
    launch("succeed", make_environ(tmp_path)).wait(timeout=WAIT_SECONDS)
    assert summary_in(tmp_path).result


def test_end_of_an_attempt_is_stored_though_logs_are_not(tmp_path: Path, launch: Launch) -> None:
    launch("rank_1_dies", make_environ(tmp_path, logs={"upload": False})).communicate(
        timeout=WAIT_SECONDS
    )
    run = tmp_path / "storage" / RUN_PREFIX
    end = json.loads((run / "attempts/a1-node-0.json").read_text())
    assert end.pop("time").endswith("Z")
    assert (end.pop("attempt"), end.pop("node")) == (1, 0)
    assert end == {
        name: getattr(summary_in(tmp_path), name)
        for name in ("exit_code", "cause", "message", "rank")
    }
    assert end["rank"] == 1
    assert not (run / "logs").exists()


def test_killed_rank_is_named_and_its_peers_are_stopped(tmp_path: Path, launch: Launch) -> None:
    process = launch("rank_1_dies", make_environ(tmp_path))
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 137
    assert summary_in(tmp_path) == Summary(
        exit_code=137,
        message="rank 1 was killed by SIGKILL; if memory ran out, raise resources.limits.memory",
        cause="UserExit",
        rank=1,
        log_tail=["about to die"],
    )


@pytest.mark.parametrize(
    ("trainee", "code", "cause", "message"),
    [
        ("raise_error", 1, "UserExit", "rank 0: ValueError: loss is NaN at step 3"),
        ("refuse", 78, "ConfigurationError", "spec.config.data.path: no such folder '/nowhere'."),
        ("exit_directly", 3, "UserExit", "rank 0 exited with code 3: giving up"),
    ],
)
def test_failing_rank_speaks_for_the_node(
    tmp_path: Path, launch: Launch, trainee: str, code: int, cause: str, message: str
) -> None:
    process = launch(trainee, make_environ(tmp_path, ranks=1))
    process.communicate(timeout=WAIT_SECONDS)
    summary = summary_in(tmp_path)
    assert process.returncode == summary.exit_code == code
    assert (summary.cause, summary.message, summary.rank) == (cause, message, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_request_to_stop_lets_ranks_save(
    tmp_path: Path, launch: Launch, number: signal.Signals
) -> None:
    process = launch("save_when_told", make_environ(tmp_path))
    wait_for_lines(process, *TRAINING)
    process.send_signal(number)
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 75, output
    assert summary_in(tmp_path) == Summary(
        exit_code=75,
        message="stopped on request after step 7; a checkpoint was saved",
        cause="Checkpointed",
        rank=summary_in(tmp_path).rank,
    )


def test_second_request_kills_ranks_that_do_not_stop(tmp_path: Path, launch: Launch) -> None:
    process = launch("ignore_stop", make_environ(tmp_path))
    wait_for_lines(process, *TRAINING)
    process.send_signal(signal.SIGTERM)
    wait_for_lines(process, "[node 0] SIGTERM")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 143
    assert "did not stop" in summary_in(tmp_path).message
    assert summary_in(tmp_path).cause == "PodDeleted"


def test_ranks_die_with_a_killed_launcher(tmp_path: Path, launch: Launch) -> None:
    process = launch("ignore_stop", make_environ(tmp_path))
    wait_for_lines(process, *TRAINING)
    pids = [int(path.read_text()) for path in (tmp_path / "scratch").glob("rank-*.pid")]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    process.kill()
    process.wait(timeout=WAIT_SECONDS)
    deadline = time.monotonic() + WAIT_SECONDS
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        os.sched_yield()
    assert not any(map(is_running, pids))


def test_ranks_die_with_a_killed_fork_server(tmp_path: Path, launch: Launch) -> None:
    process = launch("ignore_stop", make_environ(tmp_path))
    wait_for_lines(process, *TRAINING)
    rank_pid = int((tmp_path / "scratch/rank-0.pid").read_text())
    server_pid = int(Path(f"/proc/{rank_pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server_pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 137
    assert summary_in(tmp_path).message.startswith("the process that ranks are forked from was")
    assert not is_running(rank_pid)


def test_process_left_by_a_rank_does_not_hold_the_node(tmp_path: Path, launch: Launch) -> None:
    process = launch("leave_a_child", make_environ(tmp_path))
    output, _ = process.communicate(timeout=50)  # The child lives for 60 s.
    assert process.returncode == 0
    assert "[rank 1] done\n" in output


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        (
            {"recipe": "clasification"},
            "spec.recipe: unknown recipe 'clasification'; did you mean 'classification'?",
        ),
        (
            {"config": {"training": {"learning_rte": 1}}},
            "spec.config.training: unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        (
            {"dataset_path": "/nowhere"},
            "spec.dataset: nothing lies at '/nowhere'; mount the data there, or set "
            "spec.dataset.uri.",
        ),
    ],
)
def test_mistake_ends_the_node_before_any_rank(
    tmp_path: Path, launch: Launch, request_fields: dict[str, object], message: str
) -> None:
    process = launch("succeed", make_environ(tmp_path, **request_fields))
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 78
    assert summary_in(tmp_path) == Summary(
        exit_code=78, message=message, cause="ConfigurationError"
    )
    assert "Traceback" not in output
    assert "rank 0" not in output.partition("\n")[2]


def test_absent_environment_is_told_in_the_summary(tmp_path: Path, launch: Launch) -> None:
    environ = make_environ(tmp_path)
    del environ["MASTER_ADDR"]
    process = launch("succeed", environ)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 78
    assert summary_in(tmp_path).message == (
        "environment: MASTER_ADDR is not set; the trainer is started by Trainyard's operator or "
        "by 'trainyard run'."
    )


def test_launcher_imports_neither_torch_nor_boto3() -> None:
    code = (
        "import sys, trainyard_trainer.launcher, trainyard_trainer.config, "
        "trainyard_trainer.registry; print({'torch', 'boto3', 'numpy'} & set(sys.modules))"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True) == "set()\n"
