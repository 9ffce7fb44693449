"""A TrainingSweep from a file, or from a guide's sweep file beside a job, checked before it runs.

`trainyard run JOB --sweep FILE` makes a TrainingSweep of a job and a guide's file: guidefile.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from trainyard.doubts import doubts
from trainyard.errors import Rejected, UsageError
from trainyard.findings import near, rejection, require_known_metadata
from trainyard.guidefile import Guide, read_guide, settle
from trainyard.jobfile import Request, assignments_in, complete, load_job, put
from trainyard.searched import require_effect
from trainyard.sweepcheck import check_trials
from trainyard.yamltext import KeyPath, Located, parse_yaml, read_yaml
from trainyard_operator.api import NAME_PATTERN, JobSpec
from trainyard_operator.contract import API_VERSION, JOB_KIND
from trainyard_operator.sweep.api import (
    LONGEST_SWEEP_NAME,
    Parameter,
    SweepRunPolicy,
    SweepSpec,
    TrainingSweep,
)
from trainyard_operator.sweep.names import SWEEP_KIND

_OF_TEMPLATE = "template.spec."
Parts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """A sweep that was found valid."""

    manifest: dict[str, Any]
    """In the API's spelling, with only what was written down."""
    sweep: TrainingSweep
    notices: tuple[str, ...] = ()
    """What a person should know of how it was read, a line each."""


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
    read = _guide_beside(request, guide) if guide else None
    document = _guided(request, read, own) if read else read_yaml(Path(request.target))
    manifest = document.value
    _template_of(document)
    if request.name:
        manifest["metadata"]["name"] = request.name
    _require_name(document)
    for parts, value in own.items():
        put(manifest["spec"], parts, value)
    notices = settle(read, manifest["spec"]) if read else ()
    if read is None:
        _complete(_template_of(document), document, request)
    sweep = _validated(document)
    require_known_metadata(document)
    require_effect(sweep, document)
    check_trials(sweep, document)
    notices += tuple(doubts(sweep.spec, document))
    return SweepFile(manifest=manifest, sweep=sweep, notices=notices)


def _validated(document: Located) -> TrainingSweep:
    """The typed sweep. Raises Rejected with every mistake."""
    try:
        return TrainingSweep.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise rejection(TrainingSweep, error, document) from None


def _guide_beside(request: Request, guide: Path) -> Guide:
    """Raises UsageError where there is a sweep already."""
    if is_sweep_file(request.target):
        raise UsageError(
            f"{request.target}: holds a {SWEEP_KIND}, and --sweep goes beside a job or a recipe; "
            "name one of these, or leave --sweep out"
        )
    return read_guide(guide)


def _guided(request: Request, guide: Guide, own: Mapping[Parts, Any]) -> Located:
    """The sweep that a guide's file makes of a job.

    own: what was typed by its path in a sweep, and is called so.
    """
    job, document = load_job(request).manifest, guide.document
    manifest = {
        "apiVersion": API_VERSION,
        "kind": SWEEP_KIND,
        "metadata": {"name": job["metadata"]["name"]},
        "spec": {"template": {"spec": job["spec"]}, **guide.spec},
    }
    typed: set[KeyPath] = {("spec", *parts) for parts in own}
    elsewhere: set[KeyPath] = {("spec", name) for name in _aliases(SweepSpec)} | typed
    spellings: dict[KeyPath, KeyPath] = {("spec",): (), **{path: path for path in elsewhere}}
    spellings |= {path: there for path, there in guide.spellings.items() if path not in typed}
    return Located(manifest, document.source, document.places, spellings)


def _own_fields(request: Request, *, is_guided: bool) -> tuple[dict[Parts, Any], Request]:
    """`spec.parallelism=2` and the like, by path below spec; what is left is the template's."""
    names, of_jobs = _aliases(SweepSpec), _aliases(JobSpec)
    own: dict[Parts, Any] = {}
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
            found = parse_yaml(value, f"'{text}'").value
            own[_parts(field, found)] = found
        elif first in of_jobs:
            rest.append(text)
        else:
            match = near(first, names) or near(first, of_jobs)
            hint = f"did you mean 'spec.{match}'?" if match else f"it has {', '.join(names)}"
            raise UsageError(f"'{text}': a sweep has no field 'spec.{first}'; {hint}")
    return own, replace(request, assignments=tuple(rest))


def _parts(field: str, value: Any) -> Parts:
    """A path below spec; keys of `parameters` have dots themselves."""
    first, *rest = field.split(".")
    if first != "parameters" or len(rest) < 2:
        return (first, *rest)
    if rest[-1] in _aliases(Parameter) and not isinstance(value, Mapping):
        return (first, ".".join(rest[:-1]), rest[-1])
    return (first, ".".join(rest))


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
    there: dict[KeyPath, KeyPath] = {("spec",): ("spec", *_OF_TEMPLATE.split(".")[:2])}
    here = Located(job, document.source, document.places, there)
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
