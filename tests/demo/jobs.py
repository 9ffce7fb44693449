"""The digits job as the demonstrations and the end-to-end tests submit it."""

from pathlib import Path
from typing import Any

import yaml

from trainyard_operator.companion import NAME as COMPANION

CHECKOUT = Path(__file__).resolve().parents[2]
DIGITS = CHECKOUT / "configs" / "digits.yaml"
POD_TEMPLATE = CHECKOUT / "tests" / "cluster" / "pod-template.yaml"
BUCKET = "trainyard"


def digits_job(**spec: Any) -> dict[str, Any]:
    """configs/digits.yaml with some fields of the spec replaced; None removes a field."""
    job: dict[str, Any] = yaml.safe_load(DIGITS.read_text())
    for field, value in spec.items():
        if value is None:
            job["spec"].pop(field, None)
        else:
            job["spec"][field] = value
    return job


def cluster_template() -> dict[str, Any]:
    """Lets pods of the test cluster use this checkout and its dependencies."""
    template: dict[str, Any] = yaml.safe_load(POD_TEMPLATE.read_text())
    return template


def program_template() -> dict[str, Any]:
    """The same for a program with storage: its companion needs what the trainer needs."""
    template = cluster_template()
    (trainer,) = template["spec"]["containers"]
    companion = {**trainer, "name": COMPANION}
    return {"spec": {**template["spec"], "initContainers": [companion]}}


def write_job(job: dict[str, Any], path: Path) -> Path:
    """The job as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def s3_client(endpoint: str) -> Any:
    """boto3's client, with the credentials of the environment."""
    import boto3
    from botocore.config import Config

    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)


def upload_folder(endpoint: str, folder: Path, prefix: str) -> int:
    """Copy a folder into the bucket, which is made first; returns how many files."""
    client = s3_client(endpoint)
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")
    return len(files)
