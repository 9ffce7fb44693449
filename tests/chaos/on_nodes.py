"""`make chaos-cluster`: every fault on the two-node cluster, again and again, while a job trains.

    python tests/chaos/on_nodes.py [--faults rank-killed=20 node-killed ...] [--results FILE]

It prints a table. With --results every blow is kept in a file, so that a long run can be made
in pieces: what was done often enough is left out. --page writes the table of all of them.
"""

import argparse
import random
import sys
import tempfile
import time
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos.nodes import table
from chaos.nodes.faults import FAULTS, Fault
from chaos.nodes.table import Results
from chaos.nodes.trial import Court
from cluster import fullcluster
from demo.cluster import use_cluster
from demo.install import install
from demo.jobs import BUCKET, s3_client, upload_folder

from trainyard_trainer.digits import write_digits

DATA = "datasets/chaos"
IMAGES = {"train": 30, "val": 4, "test": 4}
"""Of each digit."""
TIMES = 5


def main() -> int:
    """Returns the exit code: 1 where anything was lost or differs."""
    arguments = parse()
    results = Results.read(arguments.results)
    if arguments.faults:
        until = time.monotonic() + 60 * arguments.minutes
        judge(dict(arguments.faults), results, until)
    print(*table.rows(results, FAULTS), sep="\n")
    if arguments.page:
        arguments.page.write_text(table.build_page(results, FAULTS, arguments.machine))
    return 1 if results.is_any_different() else 0


def judge(faults: dict[str, int], results: Results, until: float) -> None:
    """Each fault so many times, unless it is later than `until` on the monotonic clock."""
    use_cluster()
    install()
    upload_data(fullcluster.s3_access().endpoint)
    court = Court(dataset=f"s3://{BUCKET}/{DATA}", calm=results.calm)
    try:
        if not court.has_calm_run():
            print(f"left alone: {court.leave_alone():.0f} s, {court.calm}", flush=True)
            results.keep_calm(court.calm)
        for alike in schedule(faults, results, court.arena.dice):
            court.judge(alike, results.add, until)
    finally:
        court.close()


def schedule(faults: dict[str, int], results: Results, dice: random.Random) -> list[list[Fault]]:
    """What was not done often enough yet, in random order: a list for each spec that it needs."""
    alike: dict[str, list[Fault]] = {}
    for name, times in faults.items():
        missing = max(times - len(results.blows_of(name)), 0)
        alike.setdefault(str(FAULTS[name].spec), []).extend([FAULTS[name]] * missing)
    for each in alike.values():
        dice.shuffle(each)
    return list(alike.values())


def upload_data(endpoint: str) -> None:
    """Some of the digits, unless they are there."""
    client = s3_client(endpoint)
    is_made = BUCKET in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    prefix = {"Bucket": BUCKET, "Prefix": f"{DATA}/", "MaxKeys": 1}
    if is_made and client.list_objects_v2(**prefix)["KeyCount"]:
        return
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder, "whole"), Path(folder, "part")
        write_digits(whole)
        for split, count in IMAGES.items():
            for digit in (whole / split).iterdir():
                few = part / split / digit.name
                few.mkdir(parents=True)
                for image in sorted(digit.iterdir())[:count]:
                    image.rename(few / image.name)
        upload_folder(endpoint, part, DATA)


def fault(text: str) -> tuple[str, int]:
    """Name and times, from NAME[=TIMES]. Raises ValueError."""
    name, _, times = text.partition("=")
    if name not in FAULTS:
        raise ValueError(name)
    return name, int(times or TIMES)


def parse() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    every = [(name, TIMES) for name in FAULTS]
    shown = f"NAME[=TIMES], by default all, {TIMES} times each: {', '.join(FAULTS)}"
    parser.add_argument("--faults", nargs="*", type=fault, default=every, help=shown)
    parser.add_argument("--minutes", type=float, default=inf, help="no fault strikes later")
    parser.add_argument("--results", type=Path, help="a file that keeps what was found")
    parser.add_argument("--page", type=Path, help="write the table of all that was found")
    parser.add_argument("--machine", default="", help="words on the machine and the date, for it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
