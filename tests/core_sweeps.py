"""Builders of sweeps for tests."""

from pathlib import Path
from typing import Any

import yaml

from trainyard_operator.sweep.api import TrainingSweep
from trainyard_operator.sweep.faults import FREE

UID = "5e3b0f6a-0000-4000-8000-000000000001"
OBJECTIVE = {"metric": "val_accuracy", "goal": "maximize"}
METHODS: dict[str, dict[str, Any]] = {
    "grid": {"parameters": {"training.seed": {"values": [0, 1, 2]}}},
    "random": {
        "parameters": {"training.lr": {"distribution": "uniform", "min": 0, "max": 1}},
        "maxTrials": 3,
    },
    "bayes": {
        "parameters": {"training.lr": {"distribution": "uniform", "min": 0, "max": 1}},
        "maxTrials": 3,
    },
    "folds": {"folds": 3},
    "list": {"trials": [{"name": "A0"}, {"name": "A1", "overrides": {"model.depth": 2}}]},
}
"""What each method needs at least."""


def make_spec(method: str = "folds", **fields: Any) -> dict[str, Any]:
    """The smallest spec of a method; a field of None is left out."""
    spec = {
        "template": {
            "spec": {"recipe": "classification", "storage": {"uri": "s3://bucket/sweeps"}}
        },
        "method": method,
        "objective": OBJECTIVE,
        **METHODS[method],
        **fields,
    }
    return {key: value for key, value in spec.items() if value is not None}


def make_sweep(method: str = "folds", **fields: Any) -> TrainingSweep:
    """A sweep named digits in namespace research, as the API server stores it."""
    metadata = {"name": "digits", "namespace": "research", "uid": UID, "generation": 1}
    return TrainingSweep.model_validate({"metadata": metadata, "spec": make_spec(method, **fields)})


def write_sweep_file(spec: dict[str, Any], name: str = "digits", **fields: Any) -> Path:
    """sweep.yaml in the current folder; fields: of the manifest."""
    manifest = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": name},
        "spec": spec,
        **fields,
    }
    path = Path("sweep.yaml")
    path.write_text(yaml.safe_dump(manifest))
    return path


def mixed_here(name: str, place: str) -> str:
    """What `trainyard run` says of a file that was changed while its sweep was unfinished."""
    return (
        f"was changed in a way that would mix results of two kinds in the unfinished run of "
        f"'{name}', whose results lie in {place}; change it back, give the changed sweep another "
        "name with --name, or begin anew with --fresh, after which nothing goes on with the "
        f"unfinished run, whose results stay. {FREE}"
    )
