"""When a sweep's report is written, and the TrainingJob that does it.

The operator itself has no credentials of storage.

One report at a time: `<sweep>-report` has the trials that had ended when it was made. It is made
anew when more have ended, and once more when the sweep has.
"""

from datetime import datetime, timedelta
from typing import Any

from trainyard_operator.contract import API_VERSION, CONTAINER, JOB_KIND
from trainyard_operator.decision import Create
from trainyard_operator.identity import owner_of
from trainyard_operator.observed import parse_time
from trainyard_operator.overlay import merge
from trainyard_operator.podenv import storage_env
from trainyard_operator.status import FINISHED
from trainyard_operator.sweep.decision import DeleteReport, SweepAction
from trainyard_operator.sweep.desired import labels_of, storage_of, sweep_uri
from trainyard_operator.sweep.handover import build_table
from trainyard_operator.sweep.names import REPORT_LABEL, report_name
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.status import SWEEP_ENDS
from trainyard_operator.sweep.table import TABLE_BYTES, TABLE_ENV

BETWEEN = timedelta(minutes=10)
"""While the sweep runs, a report is made no sooner than this after the one before."""
COMMAND = ["python3", "-m", "trainyard_trainer.sweep_report"]
RESOURCES = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"cpu": "1", "memory": "1Gi"},
}
FINAL = "final"


def report_actions(scene: SweepScene) -> tuple[tuple[SweepAction, ...], datetime | None]:
    """What is to be done about the report now, and when to look again."""
    stamp, known = _stamp(scene), scene.report
    if not scene.reports_by_job or stamp == "0" or sweep_uri(scene.sweep, scene.defaults) is None:
        return (), None
    if known and (known.stamp == stamp or known.phase not in FINISHED):
        return (), None
    since = parse_time(known.created if known else scene.status.start_time)
    due = since + BETWEEN if since and stamp != FINAL else None
    if due and scene.now < due:
        return (), due
    if known:
        return (DeleteReport(job=known.job, uid=known.uid),), None
    return (Create(build_report_job(scene, stamp)),), None


def is_reported(scene: SweepScene) -> bool:
    """Whether nothing of the report is still to be written."""
    actions, due = report_actions(scene)
    is_written = scene.report is None or scene.report.phase in FINISHED
    return not actions and due is None and is_written


def _stamp(scene: SweepScene) -> str:
    if scene.status.phase in SWEEP_ENDS and not scene.active:
        return FINAL if scene.records else "0"
    return str(sum(trial.state != "Running" for trial in scene.trials))


def build_report_job(scene: SweepScene, stamp: str) -> dict[str, Any]:
    """The TrainingJob. Its pod has the volumes of the trials', for storage may lie on one.

    It is told of storage by its environment alone: with `spec.storage` it would get a companion,
    which keeps checkpoints of programs.
    """
    sweep, job = scene.sweep, scene.sweep.spec.template.spec
    given = job.template or {}
    room = TABLE_BYTES - len(str(given))
    table = build_table(sweep, scene.records, is_final=stamp == FINAL)
    storage, uri = storage_of(sweep, scene.defaults), sweep_uri(sweep, scene.defaults)
    text = table.fitting(max(room, 1000)).to_text()
    env = [*(storage_env(storage) if storage else ()), {"name": TABLE_ENV, "value": text}]
    container = {"name": CONTAINER, "env": env}
    spec = {
        "command": [*COMMAND, uri],
        "template": merge(given, {"spec": {"containers": [container]}}),
        "resources": RESOURCES,
        "runPolicy": {"maxRestarts": 2},
    }
    if job.recipe and job.image:
        spec["image"] = job.image
    return {
        "apiVersion": API_VERSION,
        "kind": JOB_KIND,
        "metadata": {
            "name": report_name(sweep.metadata.name),
            "namespace": sweep.metadata.namespace,
            "labels": labels_of(sweep) | {REPORT_LABEL: stamp},
            "ownerReferences": [owner_of(sweep)],
        },
        "spec": spec,
    }
