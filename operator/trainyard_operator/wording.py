"""What an attempt's failures and troubles are called: whole sentences for a person, from facts.

Each says where, what, and what to write instead.
"""

import signal

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause, Summary
from trainyard_operator.observed import PodRecord
from trainyard_operator.podgroup import is_kueue
from trainyard_operator.torchrun import last_words

COMMAND = "exec: "
"""Stands in a runtime's message before the command that it could not execute."""
LONGEST = 1024
"""Characters of a sentence; a status must stay small, whatever a program or a registry says."""

_VERBS = {
    Cause.EVICTED: "was evicted",
    Cause.PREEMPTED: "was preempted",
    Cause.POD_DELETED: "was deleted",
    Cause.NODE_LOST: "was lost with its node",
    Cause.UNSCHEDULABLE: "was refused by its node",
    Cause.DEADLINE: "ran longer than spec.template.spec.activeDeadlineSeconds",
}
_PULL_FAILURES = (
    (("not found", "manifest unknown"), "no such image or tag"),
    (("unauthorized", "authorization failed", "denied", "forbidden"), "access denied"),
    (("no such host",), "no such registry"),
    (("timeout", "deadline exceeded", "connection refused"), "the registry does not answer"),
    (("no space left",), "the node's disk is full"),
)
"""Words of container runtimes (in small letters), and what they come to."""


def cut(text: str, characters: int = LONGEST) -> str:
    """The text, with an ellipsis where it was too long."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def figure(value: float) -> str:
    """Four significant digits, and no exponent where the number itself is short."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e10 else f"{value:.4g}"


def ended(text: str) -> str:
    """The text as a sentence: cut, and with one full stop."""
    text = cut(text.strip())
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def failure(job: TrainingJob, pod: PodRecord, summary: Summary | None, cause: Cause) -> str:
    """How a pod failed."""
    code = pod.terminated.exit_code if pod.terminated else None
    if cause is Cause.CONFIGURATION and summary:
        return ended(summary.message)
    if cause is Cause.CONFIGURATION and code is not None and COMMAND in _last_words(pod):
        return _bad_command(pod)
    if cause in _VERBS:
        detail = pod.message.strip() or (summary.message if summary else "")
        return ended(f"{_subject(pod)} {_VERBS[cause]}{_after(detail)}")
    if summary:
        return _own_account(pod, summary)
    if cause is Cause.OUT_OF_MEMORY:
        return _out_of_memory(job, pod)
    return ended(f"{_subject(pod)} exited with code {_code(code)}{_after(_last_words(pod))}")


def log_tail(pod: PodRecord) -> list[str]:
    """The last log lines, which the kubelet leaves where a program wrote no message."""
    lines = pod.terminated.message.splitlines() if pod.terminated else []
    return [cut(line.rstrip(), 400) for line in lines if line.strip()]


def unschedulable(job: TrainingJob, pod: PodRecord) -> str:
    """Why no node takes a pod, without the scheduler's thoughts on preemption."""
    if pod.is_gated and is_kueue(job):
        return f"Pod {pod.name} waits in Kueue's queue '{job.spec.scheduling.queue}'."
    return ended(f"Pod {pod.name} waits for a node: {pod.unschedulable.split(' preemption:')[0]}")


def image(job: TrainingJob, pod: PodRecord, reason: str, detail: str) -> str:
    """Why an image cannot be had; the same sentence for each of the kubelet's tries."""
    named = f"'{job.spec.image}'" if job.spec.image else "the operator's trainer image"
    why = _why_no_image(reason, detail)
    remedy = "Correct spec.image"
    if not job.spec.image:
        remedy = "Set spec.image, or trainerImage of the Helm chart"
    if why == "access denied":
        remedy += ", or name a Secret in spec.template.spec.imagePullSecrets"
    return ended(f"Pod {pod.name} cannot pull {named}{_after(why)}. {remedy}")


def reference(job: TrainingJob, pod: PodRecord, detail: str) -> str:
    """A Secret or ConfigMap that a container's environment needs is absent or lacks a key."""
    storage, source = job.spec.storage, job.spec.config_from
    secret = storage.credentials_secret_ref if storage else None
    if secret and f'secret "{secret.name}" not found' in detail:
        return _absent(
            job,
            f"spec.storage.credentialsSecretRef: no Secret '{secret.name}'",
            "drop the field to use the pod's identity",
        )
    config_map = source.config_map_key_ref.name if source else ""
    if config_map and f'configmap "{config_map}" not found' in detail:
        return _absent(
            job,
            f"spec.configFrom.configMapKeyRef: no ConfigMap '{config_map}'",
            "drop the field",
        )
    return cannot_start(pod, detail)


def cannot_start(pod: PodRecord, detail: str) -> str:
    """The container runtime's own words."""
    return ended(f"Pod {pod.name} cannot start{_after(detail)}")


def _absent(job: TrainingJob, what: str, otherwise: str) -> str:
    return f"{what} in namespace '{job.metadata.namespace}'; create it, or {otherwise}."


def _own_account(pod: PodRecord, summary: Summary) -> str:
    """The trainer's sentence, with the place after the rank that it names."""
    where = f"pod {pod.name}, node {pod.node}" if pod.node else f"pod {pod.name}"
    message = cut(summary.message.strip().rstrip("."), LONGEST - len(where) - 4)
    named = f"rank {summary.rank}"
    if message.lower().startswith((f"{named} ", f"{named}:")):
        return ended(f"Rank {summary.rank} ({where}){message[len(named) :]}")
    is_word = message.split(" ", 1)[0].isalpha()  # And no address or field.
    start = message[:1].upper() if is_word else message[:1]
    return ended(f"{start}{message[1:]} ({where})")


def _out_of_memory(job: TrainingJob, pod: PodRecord) -> str:
    limit = job.spec.resources.limits.get("memory")
    size = f"its memory limit of {limit}" if limit else "its memory limit"
    return f"{_subject(pod)} exceeded {size}; raise resources.limits.memory."


def _bad_command(pod: PodRecord) -> str:
    what = _last_words(pod).split(COMMAND, 1)[1].removesuffix(": unknown")
    field = "spec.command or spec.image"
    return ended(f"{_subject(pod)} cannot execute {cut(what, 500)}. Correct {field}")


def _why_no_image(reason: str, detail: str) -> str:
    if reason == "InvalidImageName":
        return "not a valid image name"
    if reason == "ErrImageNeverPull":
        return "not on the node, and imagePullPolicy is Never"
    folded = detail.lower()
    known = (why for words, why in _PULL_FAILURES if any(word in folded for word in words))
    return next(known, cut(detail, 300))


def _subject(pod: PodRecord) -> str:
    return f"Pod {pod.name} (node {pod.node})" if pod.node else f"Pod {pod.name}"


def _after(detail: str) -> str:
    return f": {detail.strip().rstrip('.')}" if detail.strip() else ""


def _code(code: int | None) -> str:
    """An exit code, with the signal that it stands for."""
    try:
        return f"{code} ({signal.Signals((code or 0) - 128).name})"
    except ValueError:
        return str(code)


def _last_words(pod: PodRecord) -> str:
    """The last line that says something."""
    return last_words(log_tail(pod))
