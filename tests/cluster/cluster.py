"""A Kubernetes with two nodes, S3 and DNS on this machine.

python3 tests/cluster/cluster.py up                 # first time: ten minutes; then 15 seconds
eval "$(python3 tests/cluster/cluster.py env)"      # KUBECONFIG, PATH, AWS_*, ...
python3 tests/cluster/cluster.py down
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a file, the folder above is what `import cluster` must find.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster import commands
from cluster.console import ClusterError, say


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (function, text) in commands.COMMANDS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(command=function)
        if name in ("up", "down"):
            action.add_argument(
                "--control-plane-only",
                action="store_true",
                help="only etcd and the API server, without root and without nodes",
            )
            action.add_argument(
                "--directory",
                type=Path,
                help="of the control plane, to have several; by default one in the cache",
            )
        if name.endswith("-node"):
            action.add_argument("node", help="node-1 or node-2")
        if name == "s3":
            action.add_argument("root", type=Path, help="the folder that holds the buckets")
            action.add_argument("--port", type=int, default=0, help="by default a free one")
        if name == "namespace":
            action.add_argument("name", help="of the namespace")
    return parser


if __name__ == "__main__":
    sys.exit(main())
