"""A real S3 server without root: versitygw over a folder, with real Signature Version 4.

from cluster.s3 import S3

with S3(tmp_path / "s3") as access:
    boto3.client("s3", endpoint_url=access.endpoint, ...)
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patience import WAIT_SECONDS
from ports import free_ports

from cluster.build import program
from cluster.process import Daemon, is_listening, spawn, wait_until


@dataclass(frozen=True)
class S3Access:
    """All that a client needs."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """The variables that boto3 and the AWS tools read."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, **options: Any) -> Any:
        """A boto3 client with these credentials, in a session that knows no others."""
        import boto3

        session = boto3.session.Session(
            self.access_key_id, self.secret_access_key, region_name=self.region
        )
        return session.client("s3", endpoint_url=self.endpoint, **options)


def new_access(endpoint: str) -> S3Access:
    """Credentials that nobody else has."""
    return S3Access(endpoint, f"TY{secrets.token_hex(8).upper()}", secrets.token_hex(20))


@dataclass
class S3:
    """One server; dies with the thread that started it, unless `outlive`.

    root: the folder that holds the buckets, each a folder in it; needs extended attributes.
    port: 0 takes a free one.
    """

    root: Path
    port: int = 0
    address: str = "127.0.0.1"
    outlive: bool = False
    cgroups: Sequence[Path] = ()
    daemon: Daemon | None = field(default=None, init=False)

    def start(self, access: S3Access | None = None) -> S3Access:
        """Serves; by default with new credentials.

        Raises ClusterError if versitygw is not in the cache and Go is not there to build it.
        """
        binary = program("versitygw")
        port = self.port or free_ports(1, self.address)[0]
        access = access or new_access(f"http://{self.address}:{port}")
        self.root.mkdir(parents=True, exist_ok=True)
        self.daemon = spawn(
            "versitygw",
            [binary, "--port", f"{self.address}:{port}", "--quiet", "posix", self.root],
            self.root.with_name(f"{self.root.name}.log"),
            outlive=self.outlive,
            cgroups=self.cgroups,
            environment={
                "ROOT_ACCESS_KEY": access.access_key_id,
                "ROOT_SECRET_KEY": access.secret_access_key,
            },
        )
        wait_until(
            lambda: is_listening(self.address, port), "S3 listens", WAIT_SECONDS, [self.daemon]
        )
        return access

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon = None

    def __enter__(self) -> S3Access:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
