"""A job from a file or a recipe's name, with assignments laid over it, checked before it runs.

An assignment `training.epochs=2` is for the recipe's configuration; one that begins with `spec.`
or `metadata.` is for the TrainingJob itself: `spec.nodes=2`.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from trainyard.errors import Rejected, UsageError
from trainyard.findings import nearest, rejection, require_known_metadata
from trainyard.kinds import no_job, require_job
from trainyard.locate import LOCAL_FOLDER, as_uri
from trainyard.yamltext import KeyPath, Located, parse_yaml, read_yaml
from trainyard_operator.api import LONGEST_NAME, NAME_PATTERN, JobSpec, TrainingJob
from trainyard_operator.contract import API_VERSION, JOB_KIND

if TYPE_CHECKING:
    from trainyard_trainer.config import RecipeConfig

_SUFFIXES = {".yaml", ".yml", ".json"}
_OWN_PREFIXES = ("spec", "metadata")
STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person typed."""

    target: str
    """A file, `-` for stdin, or the name of a recipe."""
    assignments: Sequence[str] = ()
    name: str | None = None
    nodes: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    """More of the job, by dotted path, such as ("spec.storage.uri", ...)."""
    config_file: Path | None = None
    """The recipe's configuration alone; it takes the place of what spec.config says."""
    is_local: bool = False
    """Runs on this machine: paths may stand for URIs, and storage has a default."""


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """A job that was found valid."""

    manifest: dict[str, Any]
    """The TrainingJob in the API's spelling, with only what was written down."""
    job: TrainingJob


def load_job(request: Request) -> JobFile:
    """Read, lay the assignments over, check. Raises UsageError or Rejected."""
    return complete(_read(request), request)


def complete(document: Located, request: Request) -> JobFile:
    """Of a job that was read already. Raises UsageError or Rejected."""
    manifest = document.value
    if request.config_file:
        found = read_yaml(request.config_file)
        if not isinstance(found.value, dict):
            raise Rejected(f"{found.source}: holds no keys and values")
        put(manifest, ["spec", "config"], found.value)
    for text in assignments_in(request.assignments):
        _assign(manifest, text)
    for dotted, value in request.settings:
        put(manifest, dotted.split("."), value)
    if request.name:
        put(manifest, ["metadata", "name"], request.name)
    if request.nodes is not None:
        put(manifest, ["spec", "nodes"], request.nodes)
    if request.is_local:
        _localize(manifest)
    job = validated(document)
    check_recipe(job, document)
    return JobFile(manifest=manifest, job=job)


def validated(document: Located) -> TrainingJob:
    """The typed job. Raises Rejected with every mistake."""
    try:
        job = TrainingJob.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise rejection(TrainingJob, error, document) from None
    require_known_metadata(document)
    for path, is_valid, demand in _rules(job):
        if not is_valid:
            raise Rejected(f"{document.where(path)}: {document.named(path)} {demand}")
    return job


def check_recipe(job: TrainingJob, document: Located) -> "RecipeConfig | None":
    """The recipe's configuration, if it is known here. Raises Rejected."""
    from trainyard_trainer.errors import ConfigurationError

    try:
        return recipe_config(job)
    except ConfigurationError as error:
        raise Rejected(_placed(document, str(error).rstrip("."))) from None


def recipe_config(job: TrainingJob) -> "RecipeConfig | None":
    """None where nobody can know it here. Raises ConfigurationError."""
    found = config_class_of(job.spec)
    if found is None or job.spec.config_from is not None:
        return None
    from trainyard_trainer import config

    return config.build_config(found, [job.spec.config or {}], job.spec.overrides or [])


def config_class_of(spec: JobSpec) -> "type[RecipeConfig] | None":
    """What its recipe can be told. Raises ConfigurationError for a recipe that nobody has."""
    if spec.recipe is None:
        return None
    from trainyard_trainer import registry

    if spec.image and spec.recipe not in registry.recipe_names():
        return None  # Another image may hold recipes of its own.
    return registry.config_class(spec.recipe)


def _read(request: Request) -> Located:
    target, path = request.target, Path(request.target)
    if target == STDIN:
        return _as_manifest(parse_yaml(sys.stdin.read(), "stdin"))
    if path.is_file() or path.suffix in _SUFFIXES or "/" in target:
        return _as_manifest(read_yaml(path))
    from trainyard_trainer import registry

    names = registry.recipe_names()
    if target not in names:
        raise UsageError(
            f"'{target}' is neither a file nor a recipe; {nearest(target, names)}",
            "trainyard recipes",
        )
    manifest = {
        "apiVersion": API_VERSION,
        "kind": JOB_KIND,
        "metadata": {"name": target},
        "spec": {"recipe": target},
    }
    return Located(manifest, target)


def _as_manifest(document: Located) -> Located:
    require_job(document)
    if isinstance(document.value.get("spec", {}), dict):
        return document
    raise no_job(document)


def assignments_in(words: Sequence[str]) -> list[str]:
    """`--lr 0.01`, `--lr=0.01` and a flag alone, `--pin_memory`, as `key=value`."""
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            found.append(word)
        elif "=" in word:
            found.append(word[2:])
        else:
            takes = bool(rest) and not rest[0].startswith("--") and "=" not in rest[0]
            found.append(f"{word[2:]}={rest.pop(0) if takes else 'true'}")
    return found


def _is_other_spelling(recipe: Any, key: str) -> bool:
    """Whether a recipe's guide has a flag of this name, such as `--checkpoint FILE`."""
    from trainyard_trainer import registry

    if recipe not in registry.recipe_names():
        return False
    return any(alias.key == key for alias in registry.config_class(recipe).aliases)


def _assign(manifest: dict[str, Any], text: str) -> None:
    """Carry out one `key=value`."""
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise UsageError(f"'{text}' is not of the form key=value", "trainyard run --help")
    if parts[0] in _OWN_PREFIXES and len(parts) > 1:
        put(manifest, parts, parse_yaml(value, f"'{text}'").value)
        return
    spec = manifest.setdefault("spec", {})
    known = {field.alias or name for name, field in JobSpec.model_fields.items()}
    if parts[0] in known and not _is_other_spelling(spec.get("recipe"), key):
        raise UsageError(
            f"'{text}' is a field of the job, not of its recipe", f"write spec.{text} instead"
        )
    if "recipe" not in spec:
        raise UsageError(
            f"'{text}' is for the configuration of a recipe, and this job has none",
            f"write spec.{text} if a field of the job was meant",
        )
    spec["overrides"] = [*(spec.get("overrides") or []), text]


def put(manifest: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    """Set a value at a path, with what is missing above it."""
    here = manifest
    for part in parts[:-1]:
        if not isinstance(here.get(part), dict):
            here[part] = {}
        here = here[part]
    here[parts[-1]] = value


def _localize(manifest: dict[str, Any]) -> None:
    """Make URIs of paths, and give results a place."""
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        return
    if spec.get("storage") is None:
        spec["storage"] = {"uri": (Path.cwd() / LOCAL_FOLDER).as_uri()}
    for section in (spec["storage"], spec.get("dataset")):
        if isinstance(section, dict) and isinstance(uri := section.get("uri"), str) and uri:
            section["uri"] = as_uri(uri)
    dataset = spec.get("dataset")
    if isinstance(dataset, dict) and isinstance(uri := dataset.get("uri"), str):
        path = Path(unquote(urlsplit(uri).path))
        if uri.startswith("file:") and not path.exists():
            raise Rejected(f"spec.dataset.uri: there is no '{path}' on this machine")


def _rules(job: TrainingJob) -> list[tuple[KeyPath, bool, str]]:
    """What the API server checks beside types: (path, whether it holds, what is demanded)."""
    spec, name = job.spec, job.metadata.name
    rules: list[tuple[KeyPath, bool, str]] = [
        (
            ("metadata", "name"),
            bool(re.match(NAME_PATTERN, name)) and len(name) <= LONGEST_NAME,
            f"must be small letters, digits and dashes, from a letter, at most {LONGEST_NAME}; "
            f"not '{name}'",
        )
    ]
    if spec.storage:
        path: KeyPath = ("spec", "storage")
        uri, endpoint = spec.storage.uri, spec.storage.endpoint
        rules += [
            ((*path, "uri"), _is_uri(uri), f"must start with s3:// or file:///, not '{uri}'"),
            (
                (*path, "endpoint"),
                endpoint is None or endpoint.startswith(("http://", "https://")),
                f"must be an http or https address, not '{endpoint}'",
            ),
        ]
    if spec.dataset and (uri := spec.dataset.uri or ""):
        path = ("spec", "dataset", "uri")
        rules.append((path, _is_uri(uri), f"must start with s3:// or file:///, not '{uri}'"))
    if spec.elastic:
        low, high = spec.elastic.min_nodes, spec.elastic.max_nodes
        holds = low <= spec.nodes <= high
        rules.append((("spec", "nodes"), holds, f"must lie between elastic's {low} and {high}"))
    return rules


def _is_uri(text: str) -> bool:
    return bool(re.match(r"s3://.|file:///", text))


def _placed(document: Located, message: str) -> str:
    """The trainer's `spec.config.training: unknown key 'x'; ..`, as and where the file has it."""
    dotted, colon, what = message.partition(": ")
    path = tuple(dotted.split("."))
    unknown = re.match(r"unknown key '([^']+)'", what)
    where = document.where((*path, unknown[1]) if unknown else path)
    return f"{where}: {document.named(path)}{colon}{what}"
