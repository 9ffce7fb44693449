"""spec.dataset comes to its path once, whole, or with a sentence why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard_operator.contract import ExitCode
from trainyard_trainer.context import StorageLocation
from trainyard_trainer.dataset import Copied, bring_dataset, copy_dataset, look_up
from trainyard_trainer.dataset_fetch import DatasetIncomplete
from trainyard_trainer.errors import ConfigurationError, TrainyardError
from trainyard_trainer.files import FileStorage
from trainyard_trainer.storage import Entry
from trainyard_trainer.storage_errors import AccessRefused

HERE = StorageLocation(uri="file:///unused", endpoint=None, region=None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    (folder / "train/a.bin").write_bytes(b"a" * 1000)
    (folder / "train/b.bin").write_bytes(b"b" * 500)
    (folder / "labels.csv").write_bytes(b"a,1\n")
    return folder


def bring(source: Path, target: Path | None) -> tuple[str | None, list[str]]:
    said: list[str] = []
    path = bring_dataset(source.as_uri(), str(target) if target else None, HERE, said.append)
    return path, said


def test_every_object_is_copied_and_counted(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    path, said = bring(source, target)
    assert path == str(target)
    assert (target / "train/a.bin").read_bytes() == b"a" * 1000
    assert (target / "labels.csv").read_bytes() == b"a,1\n"
    assert len(said) == 1
    assert said[0].startswith(f"dataset: 3 files, 1.5 kB at {target}, 3 fetched in ")


def test_data_that_nobody_may_list_is_not_taken_for_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessRefused) as caught:
        bring_dataset("s3://bucket/digits", str(tmp_path / "data"), HERE, print)
    assert str(caught.value) == (
        "spec.dataset.uri: https://s3.amazonaws.com refused to list (no credentials; set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); correct the access key, the secret key or "
        "their permissions, which are those of spec.storage, or hand `trainyard run` a "
        "--dataset FOLDER."
    )


def test_second_process_on_the_volume_copies_nothing(source: Path, tmp_path: Path) -> None:
    bring(source, tmp_path / "data")
    again = copy_dataset(look_up(FileStorage(source), source.as_uri()), tmp_path / "data")
    assert again == Copied(files=3, size_bytes=1504, fetched=0)


def test_only_what_changed_is_copied_again(source: Path, tmp_path: Path) -> None:
    bring(source, tmp_path / "data")
    (source / "labels.csv").write_bytes(b"a,2\nb,1\n")
    again = copy_dataset(look_up(FileStorage(source), source.as_uri()), tmp_path / "data")
    assert again == Copied(files=3, size_bytes=1508, fetched=1)
    assert (tmp_path / "data/labels.csv").read_bytes() == b"a,2\nb,1\n"


def test_interrupted_copy_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    bring(source, target)
    (target / ".trainyard-dataset.json").unlink()
    (target / "train/b.bin").unlink()
    assert copy_dataset(look_up(FileStorage(source), source.as_uri()), target).fetched == 1


def test_object_shorter_than_its_listing_is_refused(source: Path, tmp_path: Path) -> None:
    class Shrinking(FileStorage):
        def list(self, prefix: str = "") -> Iterator[Entry]:
            for entry in super().list(prefix):
                yield Entry(entry.key, entry.size_bytes + 1, entry.modified)

    with pytest.raises(DatasetIncomplete, match="has 4 bytes, its listing says 5"):
        copy_dataset(look_up(Shrinking(source), source.as_uri()), tmp_path / "data")
    assert not (tmp_path / "data/.trainyard-dataset.json").exists()


def test_local_folder_is_used_where_it_lies(source: Path) -> None:
    assert bring(source, None) == (str(source), [])
    assert bring(source, source) == (str(source), [])
    assert not (source / ".trainyard-dataset.json").exists()


def test_path_alone_must_exist(tmp_path: Path) -> None:
    assert bring_dataset(None, str(tmp_path), HERE, print) == str(tmp_path)
    assert bring_dataset(None, None, HERE, print) is None


@pytest.mark.parametrize("target", [None, "data"])
def test_empty_prefix_says_what_to_do(tmp_path: Path, target: str | None) -> None:
    uri = (tmp_path / "digts").as_uri()
    with pytest.raises(ConfigurationError) as caught:
        bring_dataset(uri, str(tmp_path / target) if target else None, HERE, print)
    put = "upload" if target else "put"
    assert str(caught.value) == (
        f"spec.dataset.uri: nothing lies under '{uri}'; {put} the data there, or correct the URI."
    )


@pytest.mark.parametrize(
    ("uri", "path", "message"),
    [
        (
            "gs://bucket/x",
            "/data",
            "spec.dataset.uri: cannot read 'gs://bucket/x'; write s3://<bucket>/<prefix> or "
            "file:///<directory>.",
        ),
        (
            "gs://bucket/x.tar",
            "/data",
            "spec.dataset.uri: cannot read 'gs://bucket/x.tar'; write s3://<bucket>/<prefix> or "
            "file:///<directory>.",
        ),
        (
            "s3://bucket/x",
            None,
            "spec.dataset.mountPath: is required for 's3://bucket/x'; set a folder to copy it to.",
        ),
    ],
)
def test_mistakes_name_their_field(uri: str, path: str | None, message: str) -> None:
    with pytest.raises(TrainyardError) as caught:
        bring_dataset(uri, path, HERE, print)
    assert (str(caught.value), caught.value.exit_code) == (message, ExitCode.CONFIGURATION)


def test_place_that_cannot_be_written_is_a_mistake(source: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot write to .*Not a directory"):
        bring(source, blocked / "data")
