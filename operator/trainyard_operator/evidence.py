"""What pods, launchers and reports prove, taken over into the status before anything is decided."""

from dataclasses import replace

from trainyard_operator import inplace, verdict
from trainyard_operator.contract import now_text
from trainyard_operator.progress import parse_report, with_report
from trainyard_operator.scene import Scene


def with_newest_attempt(scene: Scene) -> Scene:
    """Traces of a later attempt than the status knows of prove that the status was lost: follow
    them, so that no attempt's number is ever used twice."""
    newest = inplace.newest_attempt(scene)
    if newest <= scene.status.attempt:
        return scene
    created_for, now = max(pod.attempt for pod in scene.observed.pods), now_text(scene.now)
    return scene.update(
        attempt=newest,
        pods_attempt=created_for if created_for < newest else None,
        attempt_time=now,
        next_attempt_time=None,
        start_time=scene.status.start_time or now,
    )


def with_reports(scene: Scene) -> Scene:
    """The collected report, then the last one, which the first pod left when it ended."""
    status = with_report(scene.status, scene.observed.report)
    for pod in scene.pods:
        if pod.node_index == 0 and (summary := verdict.summary_of(pod)):
            status = with_report(status, parse_report(summary.report))
    return replace(scene, status=status)
