"""Which dialect is chosen for servers that lack something."""

import pytest

from trainyard_trainer.dialect import find_dialect
from trainyard_trainer.storage import open_storage
from trainyard_trainer.storage_errors import RequestRefused, StorageUnreachable


class Server:
    """A directory that lacks what a test says."""

    def __init__(self, root, dialect, *lacks):
        self._files, self._dialect, self._lacks = open_storage(root.as_uri()), dialect, lacks
        self.list, self.check = self._files.list, self._files.check

    def write(self, key, data, *, if_absent=False):
        if "checksums" in self._lacks and self._dialect == "aws":
            raise RequestRefused("server", "write", "InvalidArgument")
        if if_absent and self._dialect != "legacy" and "conditions" in self._lacks:
            raise RequestRefused("server", "write", "NotImplemented")
        is_careless = "care" in self._lacks and self._dialect != "legacy"
        self._files.write(key, data, if_absent=if_absent and not is_careless)

    def delete(self, keys):
        if "batch" in self._lacks and self._dialect == "aws":
            raise RequestRefused("server", "delete", "NotImplemented")
        self._files.delete(keys)


@pytest.mark.parametrize(
    ("lacks", "found"),
    [
        ([], "aws"),
        (["checksums"], "strict"),
        (["conditions"], "legacy"),
        (["care"], "legacy"),
        (["batch"], "strict"),
        (["checksums", "conditions", "batch"], "legacy"),
    ],
)
def test_the_most_capable_dialect_that_works_is_found(tmp_path, lacks, found):
    assert find_dialect(lambda dialect: Server(tmp_path, dialect, *lacks)) == found
    assert list(open_storage(tmp_path.as_uri()).list()) == []


def test_a_server_that_is_away_says_nothing_about_its_dialect():
    class Away:
        def list(self, prefix):
            raise StorageUnreachable("server", "list", "timeout")

    with pytest.raises(StorageUnreachable):
        find_dialect(lambda dialect: Away())
