"""The operator's configuration: flags, then environment variables, then defaults."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainyard_operator.api import SecretRef, Storage
from trainyard_operator.apidata import ENDPOINT_PATTERN, URI_PATTERN
from trainyard_operator.apimodel import Text
from trainyard_operator.contract import S3Dialect
from trainyard_operator.desired import Defaults
from trainyard_operator.logform import LogFormat

PREFIX = "TRAINYARD_OPERATOR_"
NAMES_PATTERN = r"( *[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])? *(,|$))+$"
"""Names of objects between commas."""


class SettingsError(ValueError):
    """A setting that cannot be used, named in the message."""


class Settings(BaseModel):
    """What the operator watches, what jobs get that leave it out, and how fast it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    namespaces: str = ""
    """Namespaces whose jobs are run, separated by commas; empty means all."""
    trainer_image: Annotated[str, Field(min_length=1)] = Defaults().trainer_image
    """Image of jobs that name none."""
    pull_secrets: str = ""
    """Secrets in each job's namespace that its images are pulled with, separated by commas."""
    storage_uri: Text = ""
    """Storage of jobs that name none, such as s3://bucket/prefix; empty means they must."""
    storage_endpoint: Text = ""
    """Address of an S3-compatible server for it; empty means Amazon S3."""
    storage_region: Annotated[str, Field(max_length=64)] = ""
    """Region of its bucket; empty means the provider's default."""
    storage_secret: Annotated[str, Field(max_length=253)] = ""
    """Secret with its credentials, in each job's namespace; empty means the pod's identity."""
    storage_compat: S3Dialect | None = None
    """Dialect of its server, as in a job's storage.compat; unset means to find out."""
    progress_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 2.0
    """Shortest time between two progress reports of one job, in seconds."""
    status_writes_per_second: Annotated[float, Field(gt=0)] = 20.0
    """Reports of all jobs together are asked for no more often than this."""
    resync_seconds: Annotated[float, Field(ge=10)] = 600.0
    """Time between two listings of all jobs, which make good what a watch missed, in seconds."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Jobs that are looked at at the same time."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz and /metrics; 0 serves nothing."""
    lease_name: str = "trainyard-operator"
    """Lease by which replicas agree on the one that acts; empty: none is used, and only one
    replica may run."""
    lease_namespace: str = ""
    """Namespace of the Lease; empty: the pod's own, and outside of a cluster no Lease is used."""
    identity: str = ""
    """Name of this replica in the Lease, which no two may share; empty: the host's and a random
    part."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of log lines."""
    log_format: LogFormat = "text"
    """Form of log lines: text, or json, an object a line with namespace, job and attempt."""

    @field_validator("pull_secrets")
    @classmethod
    def _are_names(cls, names: str) -> str:
        return _matching(NAMES_PATTERN, names, "names of Secrets, separated by commas")

    @field_validator("storage_uri")
    @classmethod
    def _is_uri(cls, uri: str) -> str:
        return _matching(URI_PATTERN, uri, "s3://bucket/prefix or file:///directory")

    @field_validator("storage_endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        return _matching(ENDPOINT_PATTERN, endpoint, "an http or https address")

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """Each namespace to watch; None for all at once."""
        return _listed(self.namespaces) or (None,)

    @property
    def defaults(self) -> Defaults:
        """What the planner adds to jobs."""
        storage = None
        if self.storage_uri:
            storage = Storage(
                uri=self.storage_uri,
                endpoint=self.storage_endpoint or None,
                region=self.storage_region or None,
                credentials_secret_ref=(
                    SecretRef(name=self.storage_secret) if self.storage_secret else None
                ),
                compat=self.storage_compat,
            )
        return Defaults(
            trainer_image=self.trainer_image,
            storage=storage,
            pull_secrets=_listed(self.pull_secrets),
        )


def read_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError; exits after --help and on an unknown flag.

    An empty variable counts as unset, as a chart writes it for a value that is left out.
    """
    values = {
        name: environ[variable]
        for name in Settings.model_fields
        if environ.get(variable := f"{PREFIX}{name.upper()}")
    }
    flags = vars(_parser().parse_args(arguments))
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name, message = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise SettingsError(
            f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}) is '{first['input']}': "
            f"{message[:1].lower()}{message[1:]}."
        ) from None


def _listed(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _matching(pattern: str, value: str, wanted: str) -> str:
    """What the CRD's rules would refuse in each job. Raises ValueError; empty is unset."""
    if value and not re.match(pattern, value):
        raise ValueError(f"write {wanted}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainyard_operator",
        description="The Trainyard operator. Each flag is also an environment variable: "
        f"{PREFIX} and its name in capitals.",
    )
    for name, field in Settings.model_fields.items():
        default = f" Default: {field.default}." if field.default not in ("", None) else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.rpartition("_")[2].upper(),
            help=f"{field.description}{default}",
        )
    return parser
