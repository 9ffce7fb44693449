"""`python -m trainyard_trainer.board URI PORT`: TensorBoard over events in S3, with spec.storage.

TensorBoard takes its server from S3_ENDPOINT and all else from the AWS provider chain; a server
that is not Amazon's needs the bucket in the path, which only a configuration file can say.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trainyard_operator.contract import Env

RELOAD_SECONDS = 30
_BY_PATH = "[default]\ns3 =\n    addressing_style = path\n"


def command(uri: str, port: str) -> list[str]:
    """TensorBoard's own command line; its fast loader does not know S3."""
    options = {
        "--logdir": uri,
        "--host": "0.0.0.0",  # noqa: S104  a Service leads here
        "--port": port,
        "--load_fast": "false",
        "--reload_interval": str(RELOAD_SECONDS),
    }
    return [sys.executable, "-m", "tensorboard.main", *(w for o in options.items() for w in o)]


def environment(environ: Mapping[str, str], config_file: Path) -> dict[str, str]:
    """What makes TensorBoard find the server."""
    own = {
        # Servers other than Amazon's may refuse the checksums that boto3 sends by default.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_DEFAULT_REGION": environ.get(Env.STORAGE_REGION) or "us-east-1",
    }
    if endpoint := environ.get(Env.STORAGE_ENDPOINT):
        own |= {"S3_ENDPOINT": endpoint, "AWS_CONFIG_FILE": str(config_file)}
    return {**environ, **own}


def main(arguments: list[str]) -> None:
    """Become TensorBoard."""
    uri, port = arguments
    config_file = Path(tempfile.mkdtemp()) / "aws-config"
    config_file.write_text(_BY_PATH)
    words = command(uri, port)
    os.execve(words[0], words, environment(os.environ, config_file))  # noqa: S606  no shell


if __name__ == "__main__":
    main(sys.argv[1:])
