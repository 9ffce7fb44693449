"""Real processes over a real gloo group: each rank calls a function of a test's own file."""

import json
from pathlib import Path
from typing import Any

from unit.engine.gang import run_gangs


def run_ranks(
    name: str, action: str, where: str, folder: Path, world_size: int = 2
) -> list[dict[str, Any]]:
    """What `main` of the module `name` gave on each rank.

    It gets action, where, the file that ranks meet at (in `folder`), rank and world size.
    """
    arguments = [action, where, str(folder / f"rendezvous-{action}")]
    phase = {"call": f"{name}:main", "arguments": arguments, "nodes": world_size}
    codes, log = run_gangs(folder, [phase])
    assert codes == [[0] * world_size], log
    files = [folder / f"answer-{rank}.json" for rank in range(world_size)]
    return [json.loads(file.read_text()) for file in files]
