"""What a file holds, told before its keys are: a job, a sweep, or a guide's sweep file."""

from typing import Any

from trainyard.errors import Rejected
from trainyard.findings import nearest
from trainyard.yamltext import Located
from trainyard_operator.contract import API_VERSION, JOB_KIND
from trainyard_operator.sweep.names import SWEEP_KIND

KINDS = (JOB_KIND, SWEEP_KIND)


def is_guide(value: Any) -> bool:
    """Whether it is a guide's sweep file, as those of W&B sweeps are."""
    return isinstance(value, dict) and "kind" not in value and {"method", "parameters"} <= {*value}


def no_job(document: Located) -> Rejected:
    """What is said of a file that has nothing of a job."""
    told = f"holds no {JOB_KIND}; it starts with 'apiVersion: {API_VERSION}'"
    return Rejected(f"{document.source}: {told}")


def require_job(document: Located) -> None:
    """Raises Rejected with one sentence for a file that holds something else."""
    value, source = document.value, document.source
    if is_guide(value):
        from trainyard.guidefile import guide_of

        guide_of(document)  # Its own mistakes come first.
        raise Rejected(
            f"{source}: holds a guide's sweep and no job; run it beside one: trainyard run JOB "
            f"--sweep {source}"
        )
    if not isinstance(value, dict):
        raise no_job(document)
    kind, where = value.get("kind", JOB_KIND), document.where(("kind",))
    if kind not in KINDS:
        raise Rejected(f"{where}: kind: unknown kind '{kind}'; {nearest(str(kind), KINDS)}")
    if kind != JOB_KIND:
        raise Rejected(
            f"{where}: holds a {kind}, where a {JOB_KIND} is wanted; run, submit and config check "
            "take one, by the name of its file"
        )
