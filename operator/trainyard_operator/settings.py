"""The operator's configuration: environment variables, read once at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainyard_operator.api import SecretRef, Storage
from trainyard_operator.desired import Defaults

PREFIX = "TRAINYARD_OPERATOR_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator watches and how fast it goes."""

    namespace: str | None = None
    """Only namespace whose jobs are run; None means all."""
    defaults: Defaults = field(default_factory=Defaults)
    """What jobs get that leave it out."""
    progress_seconds: float = 2.0
    """Shortest time between two progress reports of one job."""
    status_writes_per_second: float = 20.0
    """Reports of all jobs together are asked for no more often than this."""
    workers: int = 16
    """Jobs that are looked at at the same time."""
    health_port: int = 8080
    """Port of /healthz, /readyz and /metrics; 0 serves nothing."""


class SettingsError(ValueError):
    """A variable that cannot be read, named in the message."""


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError naming the variable that is malformed."""
    known = {name.removeprefix(PREFIX): v for name, v in environ.items() if name.startswith(PREFIX)}
    trainer_image = known.get("TRAINER_IMAGE") or Defaults().trainer_image
    return Settings(
        namespace=known.get("NAMESPACE") or None,
        defaults=Defaults(trainer_image=trainer_image, storage=_storage(known)),
        progress_seconds=_number(known, "PROGRESS_SECONDS", Settings.progress_seconds),
        workers=int(_number(known, "WORKERS", Settings.workers)),
        health_port=int(_number(known, "HEALTH_PORT", Settings.health_port)),
    )


def _storage(known: Mapping[str, str]) -> Storage | None:
    uri = known.get("STORAGE_URI")
    if not uri:
        return None
    secret = known.get("STORAGE_SECRET")
    return Storage(
        uri=uri,
        endpoint=known.get("STORAGE_ENDPOINT") or None,
        region=known.get("STORAGE_REGION") or None,
        credentials_secret_ref=SecretRef(name=secret) if secret else None,
    )


def _number(known: Mapping[str, str], name: str, default: float) -> float:
    text = known.get(name) or str(default)
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"{PREFIX}{name}: expected a number, found '{text}'.") from None
