"""What a node does before its ranks run: check the job, reach storage, bring the data set.

All of it happens beside the fork server's imports, and nothing here imports torch.
"""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from trainyard_operator.contract import now_text
from trainyard_operator.layout import RUN_FILE
from trainyard_trainer.context import RunContext
from trainyard_trainer.dataset import bring_dataset
from trainyard_trainer.dialect import DIALECTS, find_dialect
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectExists, StorageError, StorageUnreachable

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Pauses between tries to reach storage, beside the retries of its client."""
STALE_SECONDS = 6 * 3600.0
"""Age from which an upload that is not finished is an earlier attempt's."""

Say = Callable[[str], None]
_T = TypeVar("_T")


def validate(run: RunContext) -> None:
    """Merge the recipe's configuration as ranks will do. Raises ConfigurationError."""
    from trainyard_trainer.config import build_config, parse_layer
    from trainyard_trainer.registry import config_class

    request = run.request
    try:
        cls = config_class(request.recipe)
    except ImportError as error:
        raise ConfigurationError(
            f"spec.recipe: '{request.recipe}' cannot be imported ({error}); correct its package."
        ) from error
    layers = [parse_layer(run.config_from, "spec.configFrom"), request.config]
    build_config(cls, layers, request.overrides, ["spec.configFrom", "spec.config"])


def reach_storage(
    run: RunContext, say: Say, sleep: Callable[[float], None] = time.sleep
) -> tuple[RunContext, Storage]:
    """The storage of this run, found to work, and the run with what its server was found to speak.

    Raises StorageUnreachable after bounded retries, and at once what a person must correct.
    """
    is_told = run.storage.compat is not None
    if not is_told:
        run = retry(lambda: _with_dialect(run, say), say, sleep)
    storage = run.storage.open().child(run.run_prefix)
    if is_told:
        retry(storage.check, say, sleep)
    if run.node_index == 0:
        retry(lambda: _record(run, storage), say, sleep)
        threading.Thread(target=_sweep, args=(storage, say), name="sweep", daemon=True).start()
    return run, storage


def _with_dialect(run: RunContext, say: Say) -> RunContext:
    place, prefix = run.storage, run.run_prefix
    found = find_dialect(lambda compat: place.open(compat=compat).child(prefix))
    if place.uri.startswith("s3:"):
        say(f"storage: the server speaks {DIALECTS[found]}")
    return dataclasses.replace(run, storage=dataclasses.replace(place, compat=found))


def _sweep(storage: Storage, say: Say) -> None:
    """Once per attempt, and in nobody's way."""
    with contextlib.suppress(StorageError):
        if count := storage.sweep(STALE_SECONDS):
            say(f"storage: removed {count} uploads that earlier attempts did not finish")


def settle_dataset(
    run: RunContext, say: Say, sleep: Callable[[float], None] = time.sleep
) -> RunContext:
    """The run with the data set brought to this node, and its place as dataset_path."""
    request = run.request

    def bring() -> str | None:
        uri, path = request.dataset_uri, request.dataset_path
        return bring_dataset(uri, path, run.storage, say, run.dataset_cache)

    path = retry(bring, say, sleep)
    return dataclasses.replace(run, request=dataclasses.replace(request, dataset_path=path))


def retry(action: Callable[[], _T], say: Say, sleep: Callable[[float], None]) -> _T:
    """Run `action` again while storage cannot be reached."""
    for seconds in RETRY_SECONDS:
        try:
            return action()
        except StorageUnreachable as error:
            say(f"{error} Trying again in {seconds:g} s.")
            sleep(seconds)
    return action()


def _record(run: RunContext, storage: Storage) -> None:
    """Write run.json once, so that storage alone tells what ran."""
    if storage.exists(RUN_FILE):
        return
    record = {
        "job": run.job,
        "namespace": run.namespace,
        "uid": run.uid,
        "recipe": run.request.recipe,
        "startTime": now_text(),
        "request": dataclasses.asdict(run.request),
        "configFrom": run.config_from,
    }
    try:
        storage.write(RUN_FILE, json.dumps(record, indent=2).encode(), if_absent=True)
    except ObjectExists:
        return
