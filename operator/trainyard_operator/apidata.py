"""The part of the API that says where data, checkpoints, logs and curves live."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from trainyard_operator.apimodel import LONGEST_NAME, NAME_PATTERN, ApiModel, Name, Uri, cel
from trainyard_operator.contract import S3Dialect

URI_PATTERN = "^(s3|file)://."
ENDPOINT_PATTERN = "^https?://."


class SecretRef(ApiModel):
    """A Secret in the job's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""


class Storage(ApiModel):
    """Where checkpoints, logs and TensorBoard events go."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                f"self.uri.matches('{URI_PATTERN}')",
                "uri must start with s3:// or file://, such as s3://bucket/prefix.",
            ),
            (
                f"!has(self.endpoint) || self.endpoint.matches('{ENDPOINT_PATTERN}')",
                "endpoint must be an http or https address, such as https://s3.example.",
            ),
        )
    )

    uri: Uri
    """s3://bucket/prefix, or file:///directory on a volume that every node shares."""
    endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """Address of an S3-compatible server; unset means Amazon S3."""
    region: Annotated[str, Field(max_length=64)] | None = None
    """Region of the bucket; unset means the provider's default."""
    credentials_secret_ref: SecretRef | None = None
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; unset means the pod's identity."""
    compat: S3Dialect | None = None
    """Dialect of the server: aws; strict (S3-compatible with conditional writes); legacy (without
    conditional writes and new checksums). Unset: each node finds out before its ranks start."""


class DatasetCache(ApiModel):
    """A volume that keeps data sets for later attempts and other jobs."""

    claim: Annotated[str, Field(min_length=1, max_length=253)]
    """PersistentVolumeClaim in the job's namespace that every node of the gang can write. Data sets
    that nobody uses leave it when space is short."""


class Dataset(ApiModel):
    """The data to train on."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                f"!has(self.uri) || self.uri.matches('{URI_PATTERN}')",
                "uri must start with s3:// or file://, such as s3://bucket/luna16.",
            ),
            ("self.mountPath.startsWith('/')", "mountPath must be absolute, such as /data."),
        )
    )

    uri: Uri | None = None
    """Prefix, or one .tar, .tar.gz, .tar.bz2, .tar.xz or .zip to unpack, that is brought to
    `mountPath` before training; unset: a volume of `template` is mounted there already."""
    mount_path: Annotated[str, Field(min_length=1, max_length=1024)] = "/data"
    """Directory at which the program finds the data."""
    size_limit: Annotated[str, Field(max_length=32)] | None = None
    """Upper bound of the volume that takes the data, such as 200Gi; unset means none."""
    cache: DatasetCache | None = None
    """Keep the data in a volume that outlives the pods; unset: each new pod fetches it."""

    @model_validator(mode="after")
    def _is_absolute(self) -> Self:
        if not self.mount_path.startswith("/"):
            raise ValueError("mountPath must be absolute, such as /data")
        return self


class Best(ApiModel):
    """Which checkpoint counts as the best."""

    metric: Name
    """Name of a metric that the program reports, such as val_accuracy."""
    mode: Literal["min", "max"] = "max"
    """Whether smaller or larger is better."""


class ResumeFrom(ApiModel):
    """A checkpoint of another job to start from."""

    job: Annotated[str, Field(max_length=LONGEST_NAME, pattern=NAME_PATTERN)]
    """Name of a TrainingJob in the same namespace and storage."""
    checkpoint: Annotated[str, Field(pattern=r"^(latest|best|[0-9]{1,12})$")] = "latest"
    """latest, best or a step."""


class Checkpoint(ApiModel):
    """When checkpoints are written and which are kept."""

    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps between checkpoints."""
    every_epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs between checkpoints."""
    every_seconds: Annotated[int, Field(ge=1)] | None = None
    """Seconds between checkpoints."""
    max_overhead_percent: Annotated[float, Field(gt=0, le=50)] | None = None
    """Where no interval is set: save after each epoch, and every 30 s or more within long ones, as
    often as training stands still for no more than this share of the time; unset means 2. A new
    best and the end of a stage are always saved."""
    keep_last: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many of the newest checkpoints are kept."""
    keep_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also keep, for good, the first checkpoint of each so many steps."""
    keep_best: Best | None = None
    """Also keep the best one by this metric; unset: by the recipe's own."""
    async_: Annotated[bool, Field(alias="async")] = True
    """Upload while training goes on."""
    resume_from: ResumeFrom | None = None
    """Start from a checkpoint of another job."""
    pause_at_step: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Save at the first evaluation at or after this optimizer step, and stay suspended until this
    is raised or unset; unset means never. Not for a program given as command."""


class Logs(ApiModel):
    """Logs of every rank."""

    upload: bool = True
    """Copy the logs to storage, where they outlive the pods."""
    flush_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Seconds between uploads; the most that a killed pod can lose."""


class TensorBoard(ApiModel):
    """TensorBoard events."""

    enabled: bool = True
    """Write events to storage."""
    serve: bool = False
    """Run a TensorBoard over them with a Service, `<job>-tensorboard`, as long as the job is
    there. It takes 256 to 1,024 MiB of memory."""
