"""A data set that is one archive: fetched whole, verified, and unpacked with nothing outside."""

import shutil
import tarfile
import zipfile
from pathlib import Path

from trainyard_trainer.dataset_fetch import Fetcher
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import Entry

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_WORK = ".trainyard-archive"


def is_archive(uri: str) -> bool:
    """By its name."""
    return uri.lower().endswith(SUFFIXES)


def unpack(fetcher: Fetcher, entry: Entry, target: Path) -> None:
    """Make `target` hold what the archive does; what is in its way is replaced.

    Raises ConfigurationError for an archive that cannot be read or would write elsewhere.
    """
    work = target / _WORK
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        archive, content = work / "archive", work / "content"
        fetcher.copy(entry, archive)
        try:
            _extract(archive, entry.key, content)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ConfigurationError(
                f"spec.dataset.uri: '{entry.key}' cannot be unpacked ({error}); pack the data "
                "again, with plain files and relative names."
            ) from error
        for child in content.iterdir():
            _replace(child, target / child.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract(archive: Path, name: str, content: Path) -> None:
    content.mkdir()
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                _check_name(member.filename)
            file.extractall(content)  # noqa: S202  every name was checked
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(content, filter="data")


def _check_name(name: str) -> None:
    """zipfile would quietly give such a member another name."""
    if name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(f"'{name}' lies outside of the archive")


def _replace(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    source.rename(target)
