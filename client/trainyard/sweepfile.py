"""A TrainingSweep from a file, or from a guide's sweep file beside a job, checked before it runs.

A guide's file is that of W&B sweeps: `method`, `metric`, `parameters` with `values` or a
distribution whose `min` and `max` are the values themselves, and `run_cap` for how many trials.
`trainyard run JOB --sweep FILE` makes a TrainingSweep of both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from trainyard.errors import Rejected, UsageError
from trainyard.findings import near, rejection, require_known_metadata
from trainyard.jobfile import Request, assignments_in, complete, load_job, put
from trainyard.sweepcheck import check_trials
from trainyard.yamltext import Located, parse_yaml, read_yaml
from trainyard_operator.api import NAME_PATTERN, JobSpec
from trainyard_operator.contract import API_VERSION, JOB_KIND
from trainyard_operator.sweep.api import (
    LONGEST_SWEEP_NAME,
    SweepRunPolicy,
    SweepSpec,
    TrainingSweep,
)
from trainyard_operator.sweep.names import SWEEP_KIND

_WITHOUT_MEANING = frozenset({"program", "name", "description", "project", "entity", "command"})
"""Keys of a guide's file that a template answers, or nobody needs."""
_DISTRIBUTIONS = {
    "uniform": "uniform",
    "log_uniform": "log_uniform",
    "log_uniform_values": "log_uniform",
    "int_uniform": "int_uniform",
    "q_uniform": "uniform",
}
_OF_TEMPLATE = "template.spec."


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """A sweep that was found valid."""

    manifest: dict[str, Any]
    """In the API's spelling, with only what was written down."""
    sweep: TrainingSweep


def is_sweep_file(target: str) -> bool:
    """Whether it is a file that says so."""
    path = Path(target)
    if not path.is_file():
        return False
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(found, dict) and found.get("kind") == SWEEP_KIND


def load_sweep(request: Request, guide: Path | None = None) -> SweepFile:
    """Read, lay the assignments over the template, check. Raises UsageError or Rejected.

    guide: a guide's sweep file, to go with the job that the request names.
    """
    own, request = _own_fields(request, is_guided=guide is not None)
    document = _guided(request, guide) if guide else read_yaml(Path(request.target))
    manifest = document.value
    _template_of(document)
    if request.name:
        manifest["metadata"]["name"] = request.name
    _require_name(document)
    for dotted, value in own.items():
        put(manifest["spec"], dotted.split("."), value)
    if guide is None:
        _complete(_template_of(document), document, request)
    sweep = _validated(document)
    require_known_metadata(document)
    check_trials(sweep, document)
    return SweepFile(manifest=manifest, sweep=sweep)


def _validated(document: Located) -> TrainingSweep:
    """The typed sweep. Raises Rejected with every mistake."""
    try:
        return TrainingSweep.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise rejection(TrainingSweep, error, document) from None


def spec_of_guide(document: Located) -> dict[str, Any]:
    """method, objective, parameters and maxTrials of a guide's sweep file. Raises Rejected."""
    found, where = document.value, document.source
    known = {"method", "metric", "parameters", "run_cap", "seed"} | _WITHOUT_MEANING
    _require_guide(document, sorted(known))
    if other := sorted(set(found) - known):
        raise Rejected(
            f"{where}: '{other[0]}' is not read from a guide's file; write a TrainingSweep, whose "
            "earlyStopping and failurePolicy say more (docs/sweeps.md)"
        )
    metric = found["metric"]
    spec: dict[str, Any] = {
        "method": found["method"],
        "objective": {"metric": metric["name"], "goal": metric.get("goal", "minimize")},
        "parameters": {
            key: _parameter(key, one, where) for key, one in found["parameters"].items()
        },
    }
    spec |= {"maxTrials": found["run_cap"]} if "run_cap" in found else {}
    return spec | ({"seed": found["seed"]} if "seed" in found else {})


def _require_guide(document: Located, known: Sequence[str]) -> None:
    """Raises Rejected where method, metric or parameters are missing, or a key is misspelt."""
    found, where = document.value, document.source
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind == SWEEP_KIND:
        raise Rejected(f"{where}: holds a {SWEEP_KIND}, which needs no job: trainyard run {where}")
    for key in found if isinstance(found, dict) else ():
        match = None if key in known else near(str(key), known, cutoff=0.75)
        if match:
            place = document.where((key,))
            raise Rejected(f"{place}: unknown key '{key}'; did you mean '{match}'?")
    if not isinstance(found, dict) or not {"method", "metric", "parameters"} <= {*found}:
        raise Rejected(f"{where}: holds no sweep; it has 'method', 'metric' and 'parameters'")
    if not isinstance(found["metric"], Mapping) or not found["metric"].get("name"):
        place = document.where(("metric",))
        raise Rejected(f"{place}: metric.name is required, such as metric: {{name: val_loss}}")
    if not isinstance(found["parameters"], Mapping):
        place = document.where(("parameters",))
        raise Rejected(f"{place}: parameters: write keys, each with values or a distribution")


def _parameter(key: str, given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Rejected(f"{where}: parameters.{key}: write values, or a distribution with min, max")
    if "value" in given:
        return {"values": [given["value"]]}
    found = {name: value for name, value in given.items() if name != "q"}
    if "values" in found:
        return {"values": found["values"]}
    if "distribution" not in found:
        is_whole = all(isinstance(found.get(end), int) for end in ("min", "max"))
        found["distribution"] = "int_uniform" if is_whole else "uniform"
    if found["distribution"] not in _DISTRIBUTIONS:
        known = ", ".join(f"'{name}'" for name in _DISTRIBUTIONS)
        raise Rejected(
            f"{where}: parameters.{key}: distribution '{found['distribution']}' is not known; "
            f"known are {known}"
        )
    found["distribution"] = _DISTRIBUTIONS[found["distribution"]]
    return found | ({"step": given["q"]} if "q" in given else {})


def _guided(request: Request, guide: Path) -> Located:
    """The sweep that a guide's file makes of a job."""
    if is_sweep_file(request.target):
        raise UsageError(
            f"{request.target}: holds a {SWEEP_KIND}, and --sweep goes beside a job or a recipe; "
            "name one of these, or leave --sweep out"
        )
    job, document = load_job(request).manifest, read_yaml(guide)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": SWEEP_KIND,
        "metadata": {"name": job["metadata"]["name"]},
        "spec": {"template": {"spec": job["spec"]}, **spec_of_guide(document)},
    }
    return Located(manifest, document.source)


def _own_fields(request: Request, *, is_guided: bool) -> tuple[dict[str, Any], Request]:
    """`spec.parallelism=2` and the like, by dotted path; what is left is the template's."""
    names, of_jobs = _aliases(SweepSpec), _aliases(JobSpec)
    own: dict[str, Any] = {}
    rest = []
    for text in assignments_in(request.assignments):
        key, equals, value = text.partition("=")
        head, _, field = key.partition(".")
        first = field.partition(".")[0]
        if head != "spec" or not equals:
            rest.append(text)
        elif field.startswith(_OF_TEMPLATE) and not is_guided:
            rest.append(f"spec.{text.removeprefix(f'spec.{_OF_TEMPLATE}')}")
        elif first in names and _is_own(field, is_guided):
            own[field] = parse_yaml(value, f"'{text}'").value
        elif first in of_jobs:
            rest.append(text)
        else:
            match = near(first, names) or near(first, of_jobs)
            hint = f"did you mean 'spec.{match}'?" if match else f"it has {', '.join(names)}"
            raise UsageError(f"'{text}': a sweep has no field 'spec.{first}'; {hint}")
    return own, replace(request, assignments=tuple(rest))


def _is_own(field: str, is_guided: bool) -> bool:
    """Of template and runPolicy jobs have one too; beside a guide's file stands a job's."""
    first, _, further = field.partition(".")
    if first == "runPolicy":
        return not further or further in _aliases(SweepRunPolicy)
    return first != "template" or not is_guided


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _template_of(document: Located) -> dict[str, Any]:
    """Raises Rejected where there is none, or no name."""
    spec = document.value.get("spec") if isinstance(document.value, dict) else None
    template = spec.get("template") if isinstance(spec, dict) else None
    name = (document.value.get("metadata") or {}).get("name") if spec else None
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict) or not name:
        raise Rejected(
            f"{document.source}: a TrainingSweep needs metadata.name and spec.template.spec"
        )
    return template


def _require_name(document: Located) -> None:
    """Raises Rejected for a name that the API server refuses; other than text is told later."""
    path = ("metadata", "name")
    name = document.value["metadata"]["name"]
    is_short = isinstance(name, str) and len(name) <= LONGEST_SWEEP_NAME
    if isinstance(name, str) and not (is_short and re.fullmatch(NAME_PATTERN, name)):
        raise Rejected(
            f"{document.where(path)}: metadata.name must be small letters, digits and dashes, "
            f"from a letter, at most {LONGEST_SWEEP_NAME}, for its trials' names are longer; not "
            f"'{name}'"
        )


def _complete(template: dict[str, Any], document: Located, request: Request) -> None:
    """The template as a job: with the assignments, local paths, and its own mistakes named."""
    name, spec = document.value["metadata"]["name"], template["spec"]
    job = {"apiVersion": API_VERSION, "kind": JOB_KIND, "metadata": {"name": name}, "spec": spec}
    here = Located(job, f"{document.source}: spec.template")
    try:
        made = complete(here, replace(request, name=None))
    except Rejected:
        _validated(document)  # Of the whole it says the place, and what belongs elsewhere.
        raise
    template["spec"] = made.manifest["spec"]


def require_local(sweep: TrainingSweep) -> None:
    """Raises UsageError for what only a cluster has."""
    if sweep.spec.template.spec.config_from:
        raise UsageError(
            "spec.template.spec.configFrom reads a ConfigMap of a cluster; write its keys below "
            "config"
        )
