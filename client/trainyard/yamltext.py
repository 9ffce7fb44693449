"""YAML with the place of every key, so that a mistake can be pointed at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainyard.errors import Rejected, UsageError
from trainyard_trainer.yamlkeys import repeated_key

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Located:
    """A parsed document."""

    value: Any
    source: str
    """File name as it was given, for messages."""
    places: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Line and column, from 1, of each key or list item."""
    spellings: Mapping[KeyPath, KeyPath] = field(default_factory=dict)
    """Paths of `value` that the file has elsewhere, such as `run_cap` of a guide for
    `spec.maxTrials`; what lies below goes with them."""

    def where(self, path: KeyPath) -> str:
        """`job.yaml:7:5` for a key, or for the nearest one above it."""
        written = self._written(path)
        for length in range(len(written), 0, -1):
            if place := self.places.get(written[:length]):
                return f"{self.source}:{place[0]}:{place[1]}"
        return self.source

    def named(self, path: KeyPath) -> str:
        """`spec.nodes`, or what the file has instead of it; empty for the file as a whole."""
        return ".".join(map(str, self._written(path)))

    def _written(self, path: KeyPath) -> KeyPath:
        for length in range(len(path), 0, -1):
            if path[:length] in self.spellings:
                return self.spellings[path[:length]] + path[length:]
        return path


def read_yaml(path: Path) -> Located:
    """One YAML document. Raises UsageError without the file, Rejected where it is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise Rejected(f"{path}: is not UTF-8 text") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Located:
    """Text as values and places. Raises Rejected."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _require_single_keys(node, source)
        value = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise Rejected(f"{where}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise Rejected(f"{source}: not YAML: {error}") from error
    finally:
        loader.dispose()
    places: dict[KeyPath, tuple[int, int]] = {}
    if node:
        _collect(node, (), places)
    return Located(value, source, places)


def _require_single_keys(node: yaml.Node | None, source: str) -> None:
    """Raises Rejected for a key that its mapping has twice."""
    if found := repeated_key(node):
        path, mark = found
        where = f"{source}:{mark.line + 1}:{mark.column + 1}"
        raise Rejected(f"{where}: {'.'.join(map(str, path))} is given twice; leave one of them")


def _collect(node: yaml.Node, path: KeyPath, places: dict[KeyPath, tuple[int, int]]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            places[here] = (key.start_mark.line + 1, key.start_mark.column + 1)
            _collect(value, here, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[*path, index] = (item.start_mark.line + 1, item.start_mark.column + 1)
            _collect(item, (*path, index), places)
