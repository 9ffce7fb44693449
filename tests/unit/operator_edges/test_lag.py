"""How far the watch of jobs is behind."""

from unit.operator_edges.fake_api import make_raw_job

from trainyard_operator.lag import WatchLag
from trainyard_operator.objectcache import ObjectCache


def make_lag() -> tuple[WatchLag, list[float]]:
    now = [100.0]
    return WatchLag(clock=lambda: now[0]), now


def test_watch_that_tells_what_is_known_is_not_behind() -> None:
    lag, now = make_lag()
    lag.expect(None, 7)
    lag.hear(None, 7)
    now[0] += 60
    lag.expect(None, 6)
    assert lag.seconds() == 0.0


def test_watch_is_behind_since_the_oldest_version_that_it_owes() -> None:
    lag, now = make_lag()
    lag.expect(None, 7)
    now[0] += 10
    lag.expect(None, 8)
    lag.hear(None, 6)
    assert lag.seconds() == 10.0
    lag.hear(None, 9)
    assert lag.seconds() == 0.0


def test_one_namespace_does_not_excuse_another() -> None:
    lag, now = make_lag()
    lag.expect("a", 7)
    now[0] += 10
    lag.hear("b", 9)
    assert lag.seconds() == 10.0


def test_deleted_job_is_not_awaited_for_ever() -> None:
    lag, now = make_lag()
    lag.hear(None, 5)
    lag.expect(None, 7)
    now[0] += 60
    lag.settle(None, 6)
    assert lag.seconds() == 60.0
    lag.settle(None, 5)
    assert lag.seconds() == 0.0


def test_store_knows_whose_watch_tells_of_a_job() -> None:
    job = make_raw_job()
    assert ObjectCache().scope_of(job) is None
    assert ObjectCache(scopes=("research", "b")).scope_of(job) == "research"
