from datetime import UTC, datetime, timedelta

from trainyard.commands.get import COLUMNS, WIDE_COLUMNS, sorted_jobs, table_row
from trainyard.jobs import Job
from trainyard.output import render_table
from trainyard.quantities import duration_text, number_text, size_text
from trainyard.story import metrics_line, next_command, progress_line, story_lines

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ago(**duration: float) -> str:
    return (NOW - timedelta(**duration)).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_job(name: str = "lung-nodules", **status: object) -> Job:
    running = {
        "phase": "Running",
        "attempt": 2,
        "restarts": {"infrastructure": 1},
        "nodes": {"desired": 2, "ready": 2},
        "progress": {
            "epoch": 12,
            "epochs": 100,
            "step": 6120,
            "steps": 51000,
            "percent": 12,
            "samplesPerSecond": 41.3,
            "estimatedCompletionTime": (NOW + timedelta(hours=22)).isoformat(),
            "metrics": {"train_loss": "0.214", "froc_score": "0.71"},
        },
        "checkpoints": {"latest": {"step": 6000, "time": ago(minutes=15)}},
        "display": {
            "progress": "12%",
            "step": "6120/51000",
            "loss": "0.214",
            "nodes": "2/2",
            "restarts": "1",
            "best": "froc_score 0.73",
            "reason": "Running",
            "node": "gpu-01",
        },
        "history": [
            {
                "time": ago(minutes=4),
                "attempt": 1,
                "type": "Restarted",
                "reason": "NodeLost",
                "message": "Lost node gpu-07.",
                "lostSteps": 213,
            }
        ],
    }
    metadata = {"name": name, "namespace": "research", "creationTimestamp": ago(hours=3)}
    return Job({"metadata": metadata, "spec": {"recipe": "x"}, "status": running | status})


def test_the_list_has_the_columns_of_kubectl() -> None:
    job = make_job()
    rows = [table_row(job, NOW)[: len(COLUMNS)], table_row(make_job("a"), NOW)[: len(COLUMNS)]]
    assert render_table(COLUMNS, rows) == (
        "NAME           PHASE     PROGRESS   STEP         LOSS    NODES   RESTARTS   "
        "CHECKPOINT   AGE\n"
        "lung-nodules   Running   12%        6120/51000   0.214   2/2     1          "
        "15m          3h\n"
        "a              Running   12%        6120/51000   0.214   2/2     1          "
        "15m          3h"
    )


def test_the_wide_list_adds_reason_eta_best_and_node() -> None:
    wide = dict(zip(WIDE_COLUMNS, table_row(make_job(), NOW), strict=True))
    assert [wide[name] for name in ("REASON", "ETA", "BEST", "NODE")] == [
        "Running",
        "22h",
        "froc_score 0.73",
        "gpu-01",
    ]


def test_sorting_by_progress_knows_numbers() -> None:
    jobs = [make_job(text, display={"progress": text}) for text in ("9%", "100%", "12%")]
    assert [job.name for job in sorted_jobs(jobs, "progress")] == ["9%", "12%", "100%"]


def test_the_progress_line_says_all_that_is_known() -> None:
    assert progress_line(make_job(), NOW) == (
        "lung-nodules  Running  attempt 2  1 restart  epoch 12/100  step 6120/51000  ETA 22h  "
        "41.3 samples/s"
    )


def test_progress_of_an_earlier_attempt_promises_nothing() -> None:
    job = make_job()
    progress = job.object["status"]["progress"]
    running_again = make_job(progress=progress | {"attempt": 1})
    still_starting = make_job(phase="Starting", progress=progress)
    assert progress_line(running_again, NOW) == (
        "lung-nodules  Running  attempt 2  1 restart  epoch 12/100  step 6120/51000"
    )
    assert progress_line(still_starting, NOW).endswith("1 restart  epoch 12/100  step 6120/51000")
    assert table_row(running_again, NOW)[WIDE_COLUMNS.index("ETA")] == ""
    assert "ETA 22h" in progress_line(make_job(progress=progress | {"attempt": 2}), NOW)


def test_the_best_is_that_of_a_checkpoint_which_may_lag_behind_the_newest_value() -> None:
    best = {"step": 140, "metric": "val_accuracy", "value": "0.9"}
    job = make_job(
        progress={"step": 160, "metrics": {"val_accuracy": "0.98333"}}, checkpoints={"best": best}
    )
    assert metrics_line(job) == "val_accuracy 0.9833 (best saved 0.9, step 140)"


def test_a_story_tells_what_happened_and_how_it_stands() -> None:
    lines = story_lines(make_job(), NOW)
    assert [line[7:] for line in lines] == [
        "Lost node gpu-07. 213 steps to repeat.",
        progress_line(make_job(), NOW),
        "train_loss 0.214  froc_score 0.71",
    ]


def test_each_ending_has_a_next_command() -> None:
    failure = {"cause": "UserExit", "message": "Rank 4 failed.", "rank": 4, "attempt": 1}
    best = {"latest": {"step": 1}, "best": {"step": 1}}
    commands = {
        "Succeeded": next_command(make_job(phase="Succeeded", checkpoints=best)),
        "Failed": next_command(make_job(phase="Failed", failure=failure)),
        "Suspended": next_command(make_job(phase="Suspended")),
        "Running": next_command(make_job(failure=failure)),
    }
    assert commands == {
        "Succeeded": "trainyard fetch lung-nodules best",
        "Failed": "trainyard logs lung-nodules --failed",
        "Suspended": "trainyard resume lung-nodules",
        "Running": "trainyard logs lung-nodules --attempt 1 --rank 4",
    }


def test_quantities_read_well() -> None:
    ages = [7, 270, 900, 10_000, 11_700, 190_000, 900_000]
    assert [duration_text(age) for age in ages] == [
        "7s",
        "4m30s",
        "15m",
        "166m",
        "3h15m",
        "2d4h",
        "10d",
    ]
    assert [size_text(n) for n in (512, 3_400_000, 1_203_000_000)] == ["512 B", "3.4 MB", "1.2 GB"]
    assert [number_text(v) for v in ("0.21437", 1203.4, "n/a")] == ["0.2144", "1203", "n/a"]
