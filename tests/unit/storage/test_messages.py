"""The whole text of each error, and the exit code that goes with it."""

import subprocess
import sys

import pytest

from trainyard_trainer import storage_errors as errors

MESSAGES = [
    (
        errors.BucketMissing("https://s3.example", "lung-trian"),
        78,
        "spec.storage.uri: https://s3.example has no bucket 'lung-trian'; create it, or correct "
        "the URI or endpoint.",
    ),
    (
        errors.BucketMissing("https://s3.example", "lung-trian", "spec.dataset.uri"),
        78,
        "spec.dataset.uri: https://s3.example has no bucket 'lung-trian'; create it, or correct "
        "the URI or endpoint.",
    ),
    (
        errors.AccessRefused("https://s3.example", "list", "wrong secret key"),
        78,
        "spec.storage.credentialsSecretRef: https://s3.example refused to list (wrong secret "
        "key); correct the access key, the secret key or their permissions.",
    ),
    (
        errors.AccessRefused("https://s3.example", "list", "wrong secret key", "spec.dataset.uri"),
        78,
        "spec.dataset.uri: https://s3.example refused to list (wrong secret key); correct the "
        "access key, the secret key or their permissions, which are those of spec.storage, or hand "
        "`trainyard run` a --dataset FOLDER.",
    ),
    (
        errors.IdentityRefused("answer 403"),
        78,
        "spec.storage: the pod's own identity gets no keys (answer 403); correct the role of its "
        "service account, or name a Secret in spec.storage.credentialsSecretRef.",
    ),
    (
        errors.ProfileMissing("lab"),
        78,
        "AWS_PROFILE: there is no profile 'lab'; correct it, or unset it.",
    ),
    (
        errors.StorageUnreachable("https://s3.example", "write", "no connection in 5 s"),
        1,
        "spec.storage: https://s3.example cannot be reached to write (no connection in 5 s); "
        "check the endpoint and the network.",
    ),
    (
        errors.StorageUnreachable("https://s3.example", "list", "TLS failed", "spec.dataset.uri"),
        1,
        "spec.dataset.uri: https://s3.example cannot be reached to list (TLS failed); check the "
        "endpoint and the network.",
    ),
    (
        errors.RequestRefused("https://s3.example", "write", "NotImplemented"),
        1,
        "spec.storage: https://s3.example refused to write (error NotImplemented); if it is not "
        "Amazon's, set spec.storage.compat to 'strict' or 'legacy'.",
    ),
    (
        errors.ClockWrong("https://s3.example"),
        1,
        "spec.storage: the clock of this node differs from that of https://s3.example by too much; "
        "set it, such as by NTP.",
    ),
    (
        errors.RegionWrong("https://s3.example", "lung", "eu-west-1"),
        78,
        "spec.storage.region: bucket 'lung' of https://s3.example is in region 'eu-west-1'; "
        "set it.",
    ),
    (
        errors.CheckpointCorrupt(6000, "part-3.pt", "differs from its SHA-256"),
        78,
        "Checkpoint step 6000 is corrupt: part-3.pt differs from its SHA-256.",
    ),
    (
        errors.NoValidCheckpoint("s3://lung/a", ("Checkpoint step 6 is corrupt: x.",)),
        78,
        "'s3://lung/a' holds 1 checkpoint(s) and none can be used, the newest because: "
        "Checkpoint step 6 is corrupt: x. Restore one, or delete them all to start from step 0.",
    ),
    (
        errors.StateNotPlain("sampler.order", "ndarray"),
        78,
        "Checkpoint state: 'sampler.order' is a ndarray; save tensors, numbers, text, lists and "
        "dicts only.",
    ),
]


@pytest.mark.parametrize(("error", "exit_code", "text"), MESSAGES, ids=lambda v: type(v).__name__)
def test_an_error_is_one_sentence(error, exit_code, text):
    assert (str(error), error.exit_code) == (text, exit_code)


def test_a_directory_needs_neither_boto3_nor_torch():
    code = (
        "import sys; from trainyard_trainer import manifest, storage; "
        "storage.open_storage('file:///tmp'); "
        "print(sorted({'boto3', 'botocore', 'torch'} & set(sys.modules)))"
    )
    path = ":".join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
    )
    assert (run.stdout, run.returncode) == ("[]\n", 0), run.stderr
