"""A guide's sweep file, as those of W&B sweeps are, read as fields of a TrainingSweep.

It has `method`, `metric`, `parameters` with `values` or a distribution whose `min` and `max` are
the values themselves, and `run_cap` for how many trials. What would change the trials and has no
counterpart here is refused; what says nothing of them is named in a line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import Rejected
from trainyard.findings import near, nearest
from trainyard.metricnames import is_larger_better
from trainyard.yamltext import KeyPath, Located, read_yaml
from trainyard_operator.sweep.names import SWEEP_KIND
from trainyard_operator.sweep.rules import as_parameter

_NEEDED = {
    "method": "method: random",
    "metric": "metric: {name: val_accuracy, goal: maximize}",
    "parameters": "parameters: {training.learning_rate: {values: [0.1, 0.01]}}",
}
"""Keys without which there is no sweep, and what they may look like."""
_WITHOUT_MEANING = ("program", "command", "name", "description", "project", "entity")
"""Keys that the job beside the file answers, or nobody needs."""
_KNOWN = (*_NEEDED, "run_cap", "seed", *_WITHOUT_MEANING)
_DISTRIBUTIONS = {
    "uniform": "uniform",
    "log_uniform": "log_uniform",
    "log_uniform_values": "log_uniform",
    "int_uniform": "int_uniform",
    "q_uniform": "uniform",
}
_LISTED = {"values": "categorical", "value": "constant"}
"""Keys of a parameter without a range, and W&B's distribution of each."""
_RANGE = ("min", "max", "q")
_SPELLINGS: dict[KeyPath, KeyPath] = {
    ("spec", "method"): ("method",),
    ("spec", "objective"): ("metric",),
    ("spec", "objective", "metric"): ("metric", "name"),
    ("spec", "parameters"): ("parameters",),
    ("spec", "maxTrials"): ("run_cap",),
    ("spec", "seed"): ("seed",),
}


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a file says."""

    document: Located
    spec: dict[str, Any]
    """method, objective, parameters, maxTrials and seed, as far as they are written."""
    spellings: Mapping[KeyPath, KeyPath]
    """Paths of a sweep to those of the file."""


def read_guide(path: Path) -> Guide:
    """Raises UsageError without the file, Rejected for what is no sweep or has another meaning."""
    return guide_of(read_yaml(path))


def guide_of(document: Located) -> Guide:
    """Of a file that was read already. Raises Rejected."""
    _require_sweep(document)
    _require_shape(document)
    _require_read(document)
    found = document.value
    objective = {"metric": found["metric"]["name"]}
    objective |= {"goal": found["metric"]["goal"]} if "goal" in found["metric"] else {}
    parameters: dict[str, Any] = {}
    spellings = dict(_SPELLINGS)
    for key, given in found["parameters"].items():
        parameters[key] = _parameter(document, key, given)
        here = ("spec", "parameters", key)
        spellings[*here, "step"] = ("parameters", key, "q")
        if "value" in given:
            spellings[*here, "values"] = ("parameters", key, "value")
    spec = {"method": found["method"], "objective": objective, "parameters": parameters}
    spec |= {"maxTrials": found["run_cap"]} if "run_cap" in found else {}
    spec |= {"seed": found["seed"]} if "seed" in found else {}
    return Guide(document=document, spec=spec, spellings=spellings)


def settle(guide: Guide, spec: dict[str, Any]) -> tuple[str, ...]:
    """Fill in what the file leaves open, and tell of it in lines for people.

    spec: the sweep's, with all that was typed beside the file. Raises Rejected where W&B's default
    is what nobody means.
    """
    document = guide.document
    if spec["method"] in ("random", "bayes") and spec.get("maxTrials") is None:
        raise Rejected(
            f"{document.where(('method',))}: run_cap is missing, and method {spec['method']} would "
            "never end; write for instance run_cap: 20"
        )
    idle = [f"'{key}'" for key in _WITHOUT_MEANING if key in document.value]
    told = [f"{document.source}: not needed here and left out: {', '.join(idle)}"] if idle else []
    objective = spec["objective"]
    if isinstance(objective, dict) and "goal" not in objective:
        name, where = objective.get("metric"), document.where(("metric",))
        objective["goal"] = "minimize"
        if is_larger_better(str(name)):
            raise Rejected(
                f"{where}: metric.goal is missing: W&B would minimize '{name}', of which more is "
                "better; write goal: maximize"
            )
        if is_larger_better(str(name)) is None:
            told.append(f"{where}: metric.goal is missing; '{name}' is minimized, as W&B does")
    return tuple(told)


def _require_sweep(document: Located) -> None:
    """Raises Rejected for a file that holds something else, a misspelt key, or too few."""
    found, source = document.value, document.source
    if not isinstance(found, dict):
        known = "'method', 'metric' and 'parameters'"
        raise Rejected(f"{source}: holds no sweep; it has {known}")
    if found.get("kind") == SWEEP_KIND:
        raise Rejected(
            f"{source}: holds a {SWEEP_KIND}, which needs no job: trainyard run {source}"
        )
    for key in found:
        match = None if key in _KNOWN else near(str(key), _KNOWN, cutoff=0.75)
        if match:
            raise Rejected(
                f"{document.where((key,))}: unknown key '{key}'; did you mean '{match}'?"
            )
    missing = [
        f"{source}: '{key}' is missing; write for instance {sample}"
        for key, sample in _NEEDED.items()
        if key not in found
    ]
    if missing:
        raise Rejected(missing[0], details=tuple(missing[1:]))


def _require_shape(document: Located) -> None:
    """Raises Rejected where metric or parameters hold something else than they have to."""
    metric, where = document.value["metric"], document.where(("metric",))
    if not isinstance(metric, Mapping) or not metric.get("name"):
        raise Rejected(f"{where}: metric.name is required, such as metric: {{name: val_loss}}")
    if "target" in metric:
        raise Rejected(
            f"{document.where(('metric', 'target'))}: metric.target: a sweep here ends with its "
            "last trial; leave target out"
        )
    _require_keys(document, ("metric",), ("name", "goal"))
    if not isinstance(document.value["parameters"], Mapping):
        place = document.where(("parameters",))
        raise Rejected(f"{place}: parameters: write keys, each with values or a distribution")


def _require_read(document: Located) -> None:
    """Raises Rejected for a key that would change the trials, were it read."""
    for key in sorted(set(document.value) - set(_KNOWN), key=str):
        raise Rejected(
            f"{document.where((key,))}: '{key}' is not read from a guide's file; write a "
            f"{SWEEP_KIND}, whose earlyStopping and failurePolicy say more (docs/sweeps.md)"
        )
    command = document.value.get("command") or []
    words = [str(word) for word in command] if isinstance(command, list) else [str(command)]
    start = words.index("${program}") + 1 if "${program}" in words else 0
    if any(not word.startswith("${") for word in words[start:]):
        raise Rejected(
            f"{document.where(('command',))}: command is not run, the job beside this file is; "
            "leave command out, and write what it sets beside the job, such as training.epochs=3"
        )


def _require_keys(document: Located, path: KeyPath, known: tuple[str, ...]) -> None:
    """Raises Rejected for a key of a section that it does not have."""
    section = document.value
    for part in path:
        section = section[part]
    for key in section:
        if key not in known:
            where, hint = document.where((*path, key)), nearest(str(key), known)
            raise Rejected(f"{where}: {document.named(path)}: unknown key '{key}'; {hint}")


def _parameter(document: Located, key: str, given: Any) -> dict[str, Any]:
    """Its values, or its range with a distribution of ours. Raises Rejected."""
    if mistake := _mistake(key, given) or _step_mistake(given):
        raise Rejected(f"{document.where(('parameters', key))}: parameters.{key}: {mistake}")
    _require_keys(document, ("parameters", key), (*_LISTED, "distribution", *_RANGE))
    if "value" in given:
        return {"values": [given["value"]]}
    if "values" in given:
        return {"values": given["values"]}
    is_whole = all(isinstance(given.get(end), int) for end in ("min", "max"))
    named = given.get("distribution") or ("int_uniform" if is_whole else "uniform")
    step = given.get("q", 1 if named == "q_uniform" else None)
    found = {end: given[end] for end in ("min", "max") if end in given}
    found["distribution"] = _DISTRIBUTIONS[named]
    return found if step is None else found | {"step": step}


def _mistake(key: str, given: Any) -> str:
    """What is wrong with a parameter, and what to write instead; empty if nothing is."""
    try:
        as_parameter(given)
    except ValueError as error:
        return str(error)
    if isinstance(inner := given.get("parameters"), Mapping):
        return f"holds parameters of its own; write {key}.{next(iter(inner), 'KEY')} as one key"
    if "probabilities" in given:
        return "each of values is as likely as the others here; leave probabilities out"
    return _distribution_mistake(given)


def _distribution_mistake(given: Mapping[str, Any]) -> str:
    listed = next((name for name in _LISTED if name in given), None)
    distribution = given.get("distribution") or (listed and _LISTED[listed])
    known = (*_DISTRIBUTIONS, *_LISTED.values())
    if distribution is not None and distribution not in known:
        names = ", ".join(f"'{name}'" for name in known)
        return f"distribution '{distribution}' is not known; known are {names}"
    others = [name for name in (*_LISTED, *_RANGE) if name in given and name != listed]
    if listed and (others or distribution != _LISTED[listed]):
        other = others[0] if others else f"distribution: {distribution}"
        return f"'{listed}' and '{other}' contradict each other; write one of them"
    if not listed and distribution in _LISTED.values():
        wanted = "values" if distribution == "categorical" else "value"
        return f"distribution '{distribution}' needs {wanted}"
    return ""


def _step_mistake(given: Mapping[str, Any]) -> str:
    step, distribution = given.get("q"), given.get("distribution")
    if step is not None and _DISTRIBUTIONS.get(distribution or "") == "log_uniform":
        return "q belongs to uniform and int_uniform; leave it out, or take one of them"
    return "q must be above 0, such as 0.1" if isinstance(step, int | float) and step <= 0 else ""
