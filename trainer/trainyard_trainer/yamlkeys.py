"""Keys that YAML has twice in one mapping: its parser takes the last without a word."""

import yaml

YamlPath = tuple[str | int, ...]
_MERGE = "tag:yaml.org,2002:merge"


def repeated_key(node: yaml.Node | None, path: YamlPath = ()) -> tuple[YamlPath, yaml.Mark] | None:
    """Path and place of the first one, as composed and before it is constructed; None: none."""
    pairs: list[tuple[str | int, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        pairs = list(enumerate(node.value))
    seen: set[tuple[str, str]] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if (key.tag, key.value) in seen:
                return (*path, key.value), key.start_mark
            seen.add((key.tag, key.value))
        pairs.append((str(key.value), value))
    for part, value in pairs:
        if found := repeated_key(value, (*path, part)):
            return found
    return None
