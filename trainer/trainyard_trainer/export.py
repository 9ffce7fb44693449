"""A trained network as a program of `torch.export`, which needs none of our code to run.

    torch.export.load("model.pt2").module()(images)

Input is what the network takes, not what the data set has: see `Recipe.example_inputs`. Batches may
have any size where the network can be traced so, else they hold one sample. Each program is read
back and compared with the original before it counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from trainyard_trainer.errors import ConfigurationError, TrainyardError
from trainyard_trainer.evaluation import evaluation_mode
from trainyard_trainer.trained import Trained

TOLERANCE = 1e-4
"""Largest difference from the original, over its largest output, on random input."""
SUFFIX = ".pt2"


class ExportFailed(TrainyardError):
    """A network that cannot be exported, or whose program computes something else."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One program."""

    file: Path
    module: str
    input_shape: tuple[int, ...]
    """Of one sample."""
    has_any_batch: bool
    """Whether batches of any size go in, or samples one by one."""
    difference: float
    """See TOLERANCE."""


def export_networks(trained: Trained, folder: Path) -> Iterator[Exported]:
    """Write `<module>.pt2` for every network worth it. Raises ExportFailed, ConfigurationError."""
    examples = trained.recipe.example_inputs()
    if not examples:
        name = type(trained.recipe).__name__
        raise ConfigurationError(
            f"spec.recipe: {name} names no network to export; give it a method 'example_inputs'."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with evaluation_mode(trained.modules), torch.no_grad():
        for name, example in examples.items():
            yield _export(name, trained.modules[name].cpu(), example, folder / f"{name}{SUFFIX}")


def _export(name: str, network: nn.Module, example: Tensor, file: Path) -> Exported:
    network(example)  # Tables that a network makes once must not be made of tracing's tensors.
    has_any_batch = True
    try:
        program = _trace(network, example, is_dynamic=True)
    except Exception:  # Dynamo and its shape solver raise many kinds.
        has_any_batch, example = False, example[:1]
        try:
            program = _trace(network, example, is_dynamic=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ExportFailed(f"'{name}' cannot be exported: {reason}") from error
    torch.export.save(program, file)
    difference = compare(network, file, example, len(example) + has_any_batch)
    if not difference <= TOLERANCE:
        raise ExportFailed(
            f"'{file}' differs from its network by {difference:.2g} of the largest output, more "
            f"than {TOLERANCE:g}; do not use it."
        )
    return Exported(
        file=file,
        module=name,
        input_shape=tuple(example.shape[1:]),
        has_any_batch=has_any_batch,
        difference=difference,
    )


def _trace(network: nn.Module, example: Tensor, *, is_dynamic: bool) -> ExportedProgram:
    shapes = ({0: torch.export.Dim("batch", min=1)},) if is_dynamic else None
    return torch.export.export(network, (example,), dynamic_shapes=shapes)


def compare(network: nn.Module, file: Path, example: Tensor, batch_size: int) -> float:
    """Largest difference over the largest output, on other values within the example's range."""
    source = torch.Generator().manual_seed(11)
    images = torch.randn(batch_size, *example.shape[1:], generator=source)
    images = images.clamp(example.min(), example.max())
    expected: Tensor = network(images)
    found: Tensor = torch.export.load(file).module()(images)
    largest = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max() / largest)
