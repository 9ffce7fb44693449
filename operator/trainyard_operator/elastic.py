"""How wide the next attempt is: fewer nodes while some are lost, all of them once they are back.

`status.elastic` says how many nodes the newest attempt has where that may be fewer than spec.nodes;
everything else sees the job as if its spec asked for that many. Nobody tells the operator that a
node is free: it tries, seldom, and stops the gang with a checkpoint for that.
"""

from datetime import datetime, timedelta

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import now_text
from trainyard_operator.observed import PodRecord, parse_time
from trainyard_operator.scene import Scene
from trainyard_operator.status import ElasticStatus, JobStatus

PATIENCE = timedelta(seconds=30)
"""How long an attempt waits for places for all of its pods before it is given fewer."""
FIRST_TRY = timedelta(minutes=2)
"""How long a gang with fewer nodes than wanted trains before all of them are tried again; this
doubles with each try in vain."""
LONGEST_TRY = timedelta(hours=1)
_DOUBLINGS = 10
"""More would overflow; LONGEST_TRY is reached by then."""


def resized(job: TrainingJob, status: JobStatus) -> TrainingJob:
    """The job with as many nodes as its newest attempt is to have."""
    bounds, now = job.spec.elastic, status.elastic
    if bounds is None or now is None:
        return job
    nodes = max(bounds.min_nodes, min(now.nodes, job.spec.nodes))
    return job.model_copy(update={"spec": job.spec.model_copy(update={"nodes": nodes})})


def narrows_at(scene: Scene) -> datetime | None:
    """When an attempt that does not get all of its places is given fewer nodes; None: never."""
    begun = parse_time(scene.status.attempt_time)
    if begun is None or _narrower(scene) is None:
        return None
    return begun + PATIENCE


def narrow(scene: Scene) -> Scene:
    """The scene whose next attempt has as many nodes as there is room for."""
    tries = scene.status.elastic.tries if scene.status.elastic else 0
    nodes = _narrower(scene) or scene.job.spec.nodes
    return _sized(scene, nodes, tries)


def widens_at(scene: Scene) -> datetime | None:
    """When a gang that runs with fewer nodes than wanted is to try with all of them."""
    now = scene.status.elastic
    if scene.job.spec.elastic is None or now is None or scene.job.spec.nodes >= scene.wanted_nodes:
        return None
    since = parse_time(now.since)
    pause = min(FIRST_TRY * 2 ** min(now.tries, _DOUBLINGS), LONGEST_TRY)
    return since + pause if since else None


def widen(scene: Scene) -> Scene:
    """The scene whose next attempt has all nodes; whether there is room shows then."""
    tries = scene.status.elastic.tries if scene.status.elastic else 0
    return _sized(scene, scene.wanted_nodes, tries + 1)


def settled(scene: Scene) -> Scene:
    """A gang with all nodes runs: what was tried before does not count any more."""
    if scene.status.elastic is None or scene.job.spec.nodes < scene.wanted_nodes:
        return scene
    return scene.update(elastic=None)


def _sized(scene: Scene, nodes: int, tries: int) -> Scene:
    since = now_text(scene.now)
    return scene.update(elastic=ElasticStatus(nodes=nodes, since=since, tries=tries))


def _narrower(scene: Scene) -> int | None:
    """How many nodes an attempt could have instead; None where it should go on waiting.

    A scheduler that places whole gangs only places nothing of one that is too wide: then half of
    the nodes are tried.
    """
    bounds, pods, nodes = scene.job.spec.elastic, scene.pods, scene.job.spec.nodes
    if bounds is None or nodes <= bounds.min_nodes or not any(map(_finds_no_place, pods)):
        return None
    placed = sum(pod.node is not None and not pod.is_deleting for pod in pods)
    return max(bounds.min_nodes, placed if placed >= bounds.min_nodes else nodes // 2)


def _finds_no_place(pod: PodRecord) -> bool:
    """Waiting in a queue is none of it: that ends with room for all."""
    is_homeless = pod.node is None and not pod.is_deleting
    return is_homeless and bool(pod.unschedulable) and not pod.is_gated
