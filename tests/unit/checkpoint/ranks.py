"""Real processes over a real gloo group: each rank runs a test's own file as a script."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from patience import HANG_SECONDS


def run_ranks(
    script: str, action: str, where: str, folder: Path, world_size: int = 2
) -> list[dict[str, Any]]:
    """What each rank printed, as JSON.

    The script gets action, where, the file that ranks meet at (in `folder`), rank and world size.
    """
    rendezvous = folder / f"rendezvous-{action}"
    ranks = [
        subprocess.Popen(
            [sys.executable, script, action, where, str(rendezvous), str(rank), str(world_size)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world_size)
    ]
    answers = [rank.communicate(timeout=HANG_SECONDS)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world_size
    return [json.loads(answer) for answer in answers]
