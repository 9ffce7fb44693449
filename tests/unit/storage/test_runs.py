"""Which run a job's name stands for, from storage alone."""

import os
from pathlib import Path

from trainyard_operator.layout import RUN_FILE, run_prefix
from trainyard_trainer.runs import newest_run
from trainyard_trainer.storage import open_storage


def begin(root: Path, job: str, uid: str, second: int) -> None:
    """Leave what the first attempt of a run writes first."""
    path = root / run_prefix("research", job, uid) / RUN_FILE
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    os.utime(path, (second, second))


def test_the_run_that_began_last_is_the_newest(tmp_path: Path) -> None:
    begin(tmp_path, "nodules", "b", 20)
    begin(tmp_path, "nodules", "c", 10)
    begin(tmp_path, "nodules-2", "d", 30)
    assert newest_run(open_storage(tmp_path.as_uri()), "research", "nodules") == "b"


def test_a_run_of_which_only_other_files_lie_there_is_none(tmp_path: Path) -> None:
    begin(tmp_path, "nodules", "a", 10)
    (tmp_path / "research/nodules/a" / RUN_FILE).rename(tmp_path / "research/nodules/a/logs.json")
    begin(tmp_path, "nodules", "a/deeper", 10)
    assert newest_run(open_storage(tmp_path.as_uri()), "research", "nodules") is None
