"""TensorBoard is told where the server is, in the words that it knows."""

import sys
from pathlib import Path

from trainyard_trainer.board import command, environment

URI = "s3://bucket/prefix/tensorboard"
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


def test_the_command_line_reads_s3_and_serves_all_addresses():
    assert command(URI, "6006") == [
        sys.executable, "-m", "tensorboard.main", "--logdir", URI, "--host", "0.0.0.0",
        "--port", "6006", "--load_fast", "false", "--reload_interval", "30",
    ]  # fmt: skip


def test_a_server_of_ones_own_is_asked_by_path():
    given = {"TRAINYARD_STORAGE_ENDPOINT": "http://s3:9000", "TRAINYARD_STORAGE_REGION": "eu"}
    assert environment(given, Path("/tmp/aws")) == given | CHECKSUMS | {
        "AWS_DEFAULT_REGION": "eu",
        "S3_ENDPOINT": "http://s3:9000",
        "AWS_CONFIG_FILE": "/tmp/aws",
    }
    assert environment({}, Path("/tmp/aws")) == CHECKSUMS | {"AWS_DEFAULT_REGION": "us-east-1"}
