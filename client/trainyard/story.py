"""A job in words: its line of progress, its story, its end, and what to type next."""

from datetime import datetime
from typing import TYPE_CHECKING

from trainyard.jobs import Job
from trainyard.quantities import (
    age_text,
    clock_text,
    duration_text,
    number_text,
    parse_time,
    size_text,
    spoken_duration,
)
from trainyard.trials import sweep_of, why_held
from trainyard_operator.contract import Annotation
from trainyard_operator.progress import is_storage_degraded
from trainyard_operator.status import HistoryEntry, JobStatus, SavedCheckpoint

if TYPE_CHECKING:
    from trainyard.sweeps import Sweep

BAR_WIDTH = 17
_SHOWN_METRICS = 4


def progress_line(job: Job, now: datetime) -> str:
    """`digits  Running  attempt 2  epoch 12/100  step 6120/51000  ETA 22h  ...` in one line."""
    status = job.status
    words = [job.name, job.phase]
    if status.attempt > 1:
        words.append(f"attempt {status.attempt}")
    if (restarts := status.restarts.user + status.restarts.infrastructure) > 0:
        words.append(f"{restarts} {'restart' if restarts == 1 else 'restarts'}")
    if is_storage_degraded(status):
        words.append("storage degraded")
    return "  ".join([*words, *_progress_words(status, now)])


def metrics_line(job: Job) -> str:
    """`train_loss 0.214  froc_score 0.71 (best saved 0.73, step 6000)`."""
    progress, best = job.status.progress, job.status.checkpoints.best
    words = []
    known = progress.metrics if progress else {}
    best_metric = best.metric if best and best.metric else ""
    first = [name for name in ("train_loss", "loss", best_metric) if name in known]
    names = list(dict.fromkeys([*first, *(name for name in known if name != "learning_rate")]))
    for name in names[:_SHOWN_METRICS]:
        value = known[name]
        word = f"{name} {number_text(value)}"
        if best and best.metric == name and best.value:
            word += f" (best saved {number_text(best.value)}, step {best.step})"
        words.append(word)
    return "  ".join(words)


def bar(percent: int | None) -> str:
    """`[##-----]  12%`."""
    filled = round(BAR_WIDTH * (percent or 0) / 100)
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {percent or 0}%"


def progress_key(status: JobStatus) -> tuple[object, ...]:
    """Changes when a progress line would say something new."""
    progress = status.progress
    return (status.phase, status.attempt, progress and (progress.stage, progress.step))


def story_lines(job: Job, now: datetime) -> list[str]:
    """One line for each entry of the history, and how things stand."""
    entries = job.status.history
    lines = [history_line(entry, now) for entry in entries]
    if not lines:
        lines = [f"{clock_text(_created(job), now)}  waits for the operator to take it up"]
    if job.is_abandoned:
        lines.append("       its runner on this machine ended before the job did")
    elif not job.is_finished:
        lines.append(f"now    {progress_line(job, now)}")
        if metrics := metrics_line(job):
            lines.append(f"       {metrics}")
    if (sweep := sweep_of(job)) and job.phase == "Suspended":
        lines.append(f"       held by sweep {sweep}: {why_held(job) or 'it was stopped'}")
    lines += [f"  | {line}" for line in failure_tail(job.status)]
    return lines


def history_line(entry: HistoryEntry, now: datetime) -> str:
    """`13:56  lost node gpu-07 at step 6213 ..., 213 steps repeated`."""
    lost = f" {entry.lost_steps} steps to repeat." if entry.lost_steps else ""
    return f"{clock_text(entry.time, now)}  {entry.message}{lost}"


def failure_tail(status: JobStatus) -> list[str]:
    """The last log lines of the culprit, once the job has failed."""
    return status.failure.log_tail if status.failure and status.phase == "Failed" else []


def next_command(job: Job) -> str:
    """What a person most likely wants to type next."""
    place = f" -n {job.namespace}" if job.cluster and job.namespace != "default" else ""
    return f"trainyard {_next_step(job)}{place}"


def _next_step(job: Job) -> str:
    status, name, failure = job.status, job.name, job.status.failure
    if status.phase == "Succeeded":
        best, latest = status.checkpoints.best, status.checkpoints.latest
        saved = "best" if best else "latest" if latest else None
        return f"fetch {name} {saved}" if saved else f"logs {name}"
    if status.phase == "Failed":
        return f"logs {name} --failed"
    if job.is_abandoned or status.phase == "Suspended":
        if sweep := sweep_of(job):
            return f"get sweep/{sweep}"
        return f"run {run_target(job)}" if job.local else f"resume {name}"
    if failure and failure.attempt < status.attempt and failure.rank is not None:
        return f"logs {name} --attempt {failure.attempt} --rank {failure.rank}"
    return f"watch {name}" if job.cluster else f"logs {name} -f"


def end_lines(job: Job, uri: str | None) -> list[str]:
    """The end of a job in a few plain lines."""
    status = job.status
    lines = [f"{job.name}: {outcome(status)}"]
    best, latest = status.checkpoints.best, status.checkpoints.latest
    if status.progress and (results := _results(status.progress.metrics)):
        lines.append(f"  {results}")
    if best and best.metric:
        value = number_text(best.value)
        lines.append(f"  best checkpoint    step {best.step}, {best.metric} {value}{_size(best)}")
    elif latest:
        lines.append(f"  latest checkpoint  step {latest.step}{_size(latest)}")
    if uri:
        lines.append(f"  everything lies at {uri}")
    return lines


def outcome(status: JobStatus) -> str:
    """`Succeeded in 41 s, 2 attempts`."""
    phase = status.phase or "Pending"
    start, end = parse_time(status.start_time), parse_time(status.completion_time)
    took = f" in {spoken_duration((end - start).total_seconds())}" if start and end else ""
    attempts = f", {status.attempt} attempts" if status.attempt > 1 else ""
    return f"{phase}{took}{attempts}"


def run_target(job: "Job | Sweep") -> str:
    """What was typed after `trainyard run`."""
    annotations = job.object["metadata"].get("annotations") or {}
    return str(annotations.get(Annotation.RUN_TARGET) or job.spec.get("recipe") or "FILE")


def checkpoint_age(saved: SavedCheckpoint | None, now: datetime) -> str:
    """How old the newest checkpoint is."""
    return age_text(saved.time, now) if saved else ""


def is_under_way(status: JobStatus) -> bool:
    """Whether the job runs, and its progress is not that of an earlier attempt."""
    reported = status.progress.attempt if status.progress else None
    return status.phase == "Running" and reported in {None, status.attempt}


def _progress_words(status: JobStatus, now: datetime) -> list[str]:
    progress = status.progress
    if progress is None or progress.step is None or progress.steps == 0:
        return []
    words = [progress.stage] if progress.stage else []
    if progress.epoch is not None:
        words.append(f"epoch {_of(progress.epoch, progress.epochs)}")
    words.append(f"step {_of(progress.step, progress.steps)}")
    eta = parse_time(progress.estimated_completion_time)
    if eta and is_under_way(status):
        words.append(f"ETA {duration_text((eta - now).total_seconds())}")
    if progress.samples_per_second and is_under_way(status):
        words.append(f"{number_text(progress.samples_per_second)} samples/s")
    if reported := parse_time(progress.last_report_time):
        age = (now - reported).total_seconds()
        if age >= 10:
            words.append(f"last report {duration_text(age)} ago")
    return words


def _results(metrics: dict[str, str]) -> str:
    """Results on the test set where there are any, else the last known values."""
    tested = {k: v for k, v in metrics.items() if k.startswith("test_")} or metrics
    return "  ".join(f"{k} {number_text(v)}" for k, v in list(tested.items())[:_SHOWN_METRICS])


def _size(saved: SavedCheckpoint) -> str:
    return f", {size_text(saved.bytes)}" if saved.bytes else ""


def _of(part: int, whole: int | None) -> str:
    return str(part) if whole is None else f"{part}/{whole}"


def _created(job: Job) -> str | None:
    found: str | None = job.object["metadata"].get("creationTimestamp")
    return found
