"""What can go wrong with storage and checkpoints; fields first, the sentence in one place each.

StorageError(TrainyardError)    1   StorageUnreachable
|-- StorageUnreachable          1   no answer, or an error of the server
|-- ObjectMissing               1   a key that should be there is not
|-- ObjectExists                1   a write-once key holds something else
|-- StorageFull                 1   no space left
|-- RequestRefused              1   the server does not do what was asked
|-- ClockWrong                  1   this node's clock differs from the server's
|-- StorageUriInvalid          78   the URI cannot be read
|-- StorageCompatInvalid       78   the dialect is not one of those known
|-- BucketMissing              78   no such bucket
|-- AccessRefused              78   wrong key, wrong secret, or not allowed
|-- IdentityRefused            78   the pod's own identity gets no keys
|-- ProfileMissing             78   AWS_PROFILE names no profile
`-- RegionWrong                78   the bucket is in another region
CheckpointError(TrainyardError)78   ConfigurationError: a person must look
|-- ManifestInvalid            78   a manifest that cannot be trusted
|-- CheckpointCorrupt          78   a part differs from its manifest
|-- CheckpointNotFound         78   what was asked for is not there
|-- NoValidCheckpoint          78   checkpoints exist, none can be used
`-- StateNotPlain              78   a state that weights_only could not load again
"""

from collections.abc import Sequence

from trainyard_operator.contract import Cause, ExitCode
from trainyard_trainer.errors import TrainyardError

URI_FIELD = "spec.storage.uri"
"""Where a URI is written, unless the one who opens the storage says another place."""
DATASET_FIELD = "spec.dataset.uri"
"""The place of a data set, which is read with the endpoint and the keys of spec.storage."""


def _section(field: str) -> str:
    """What a person looks at where a server does not do what was asked."""
    return field if field == DATASET_FIELD else "spec.storage"


class StorageError(TrainyardError):
    """Storage did not do what was asked."""

    exit_code: int = 1
    cause = Cause.STORAGE


class StorageUnreachable(StorageError):
    """No answer in time, or an error of the server, after all retries."""

    def __init__(self, where: str, operation: str, reason: str, field: str = URI_FIELD) -> None:
        self.where, self.operation, self.reason, self.field = where, operation, reason, field
        super().__init__(
            f"{_section(field)}: {where} cannot be reached to {operation} ({reason}); check the "
            "endpoint and the network."
        )


class ObjectMissing(StorageError):
    """A key that should be there is not."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"Storage holds no object '{uri}'.")


class ObjectExists(StorageError):
    """A key that is written once already holds something else."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(
            f"Storage already holds another object '{uri}'; is a second process running as the "
            "same job and attempt?"
        )


class StorageFull(StorageError):
    """No space, or no quota, is left."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(f"spec.storage: no space is left at '{where}'; free some or enlarge it.")


class RequestRefused(StorageError):
    """The server answers, and does not know or want what it was asked."""

    def __init__(self, where: str, operation: str, code: str, field: str = URI_FIELD) -> None:
        self.where, self.operation, self.code, self.field = where, operation, code, field
        super().__init__(
            f"{_section(field)}: {where} refused to {operation} (error {code}); if it is not "
            "Amazon's, set spec.storage.compat to 'strict' or 'legacy'."
        )


class ClockWrong(StorageError):
    """Requests are signed with the time, and the server takes them for old or early."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(
            f"spec.storage: the clock of this node differs from that of {where} by too much; set "
            "it, such as by NTP."
        )


class StorageUriInvalid(StorageError):
    """A URI of a scheme, or a shape, that is not known."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, uri: str, field: str = URI_FIELD) -> None:
        self.uri, self.field = uri, field
        super().__init__(
            f"{field}: cannot read '{uri}'; write s3://<bucket>/<prefix> or file:///<directory>."
        )


class StorageCompatInvalid(StorageError):
    """A dialect of S3 that is not known."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, compat: str, known: Sequence[str]) -> None:
        self.compat, self.known = compat, tuple(known)
        super().__init__(
            f"spec.storage.compat: unknown dialect '{compat}'; write one of {', '.join(known)}, or "
            "leave it out."
        )


class BucketMissing(StorageError):
    """The endpoint answers, and has no such bucket."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, endpoint: str, bucket: str, field: str = URI_FIELD) -> None:
        self.endpoint, self.bucket, self.field = endpoint, bucket, field
        super().__init__(
            f"{field}: {endpoint} has no bucket '{bucket}'; create it, or correct the "
            "URI or endpoint."
        )


class AccessRefused(StorageError):
    """No credentials, wrong ones, or not allowed to do this."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, where: str, operation: str, reason: str, field: str = URI_FIELD) -> None:
        self.where, self.operation, self.reason, self.field = where, operation, reason, field
        place, rest = "spec.storage.credentialsSecretRef", ""
        if field == DATASET_FIELD:
            rest = ", which are those of spec.storage, or hand `trainyard run` a --dataset FOLDER"
            place = field
        super().__init__(
            f"{place}: {where} refused to {operation} ({reason}); correct the access key, the "
            f"secret key or their permissions{rest}."
        )


class IdentityRefused(StorageError):
    """No Secret is named, and who gives keys to the pod's own identity refuses."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"spec.storage: the pod's own identity gets no keys ({reason}); correct the role of "
            "its service account, or name a Secret in spec.storage.credentialsSecretRef."
        )


class ProfileMissing(StorageError):
    """AWS_PROFILE names what the AWS configuration does not have."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, profile: str) -> None:
        self.profile = profile
        super().__init__(f"AWS_PROFILE: there is no profile '{profile}'; correct it, or unset it.")


class RegionWrong(StorageError):
    """The bucket is in another region than the one signed for."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION

    def __init__(self, endpoint: str, bucket: str, region: str | None) -> None:
        self.endpoint, self.bucket, self.region = endpoint, bucket, region
        where = f"is in region '{region}'" if region else "is in another region"
        super().__init__(f"spec.storage.region: bucket '{bucket}' of {endpoint} {where}; set it.")


class CheckpointError(TrainyardError):
    """A checkpoint cannot be used, and a person must decide what happens next."""

    exit_code = ExitCode.CONFIGURATION
    cause = Cause.CONFIGURATION


class ManifestInvalid(CheckpointError):
    """A manifest that is truncated, altered, or of a newer format."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"Manifest '{key}' cannot be used: {reason}.")


class CheckpointCorrupt(CheckpointError):
    """A part is missing or differs from what the manifest says of it."""

    def __init__(self, step: int, part: str, problem: str) -> None:
        self.step, self.part, self.problem = step, part, problem
        super().__init__(f"Checkpoint step {step} is corrupt: {part} {problem}.")


class CheckpointNotFound(CheckpointError):
    """No checkpoint answers to what was asked for."""

    def __init__(self, uri: str, which: str) -> None:
        self.uri, self.which = uri, which
        super().__init__(f"'{uri}' holds no checkpoint '{which}'; list what it has and name one.")


class NoValidCheckpoint(CheckpointError):
    """Checkpoints exist and none of them can be used: never start from zero in silence."""

    def __init__(self, uri: str, problems: tuple[str, ...]) -> None:
        self.uri, self.problems = uri, problems
        super().__init__(
            f"'{uri}' holds {len(problems)} checkpoint(s) and none can be used, the newest "
            f"because: {problems[0]} Restore one, or delete them all to start from step 0."
        )


class StateNotPlain(CheckpointError):
    """A value in the state that torch.load(weights_only=True) would refuse."""

    def __init__(self, path: str, kind: str) -> None:
        self.path, self.kind = path, kind
        super().__init__(
            f"Checkpoint state: '{path}' is a {kind}; save tensors, numbers, text, lists and "
            "dicts only."
        )
