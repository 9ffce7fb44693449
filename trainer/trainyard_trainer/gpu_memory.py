"""What to say when a GPU's memory is exhausted: what was asked, who holds most, what to write."""

import contextlib
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainyard_operator.contract import Cause
from trainyard_trainer.diagnosis import Suspect, each_output
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.evaluation import evaluation_mode
from trainyard_trainer.recipe import Recipe

MOST_NAMED = 3
"""Layers that a message names."""


def used_mebibytes(device: torch.device) -> float:
    """The most memory that tensors on a GPU, or this process on a CPU, ever had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


class GpuMemoryExhausted(TrainyardError):
    """The GPU has less memory than a step needs."""

    cause = Cause.OUT_OF_MEMORY

    def __init__(self, step: int, asked: str, largest: Mapping[str, int], advice: str) -> None:
        self.step, self.asked, self.largest, self.advice = step, asked, dict(largest), advice
        named = [f"{name} ({_size(size)})" for name, size in self.largest.items()]
        most = f"; the most is held by {', '.join(named)}" if named else ""
        super().__init__(f"GPU memory is exhausted at step {step}: {asked}{most}; {advice}.")


def explain_exhaustion(
    error: BaseException,
    step: int,
    recipe: Recipe[Any],
    modules: Mapping[str, nn.Module],
    suspects: list[Suspect],
) -> GpuMemoryExhausted:
    """suspects: the micro-batches of the step, of which one sample is computed; none elsewhere."""
    if not suspects:
        advice = "write a smaller training.evaluation_batch_size"
        return GpuMemoryExhausted(step, _asked(str(error)), {}, advice)
    held = max(len(suspect.samples) for suspect in suspects)
    largest: dict[str, int] = {}
    with contextlib.suppress(Exception):  # The message is worth more without it than none at all.
        largest = _largest(recipe, modules, suspects[0])
    advice = "write training.precision: bf16, or a smaller model"
    if held > 1:
        advice = f"write training.micro_batch_size: {held // 2}, half of what a rank holds now"
    return GpuMemoryExhausted(step, _asked(str(error)), largest, advice)


def _asked(text: str) -> str:
    found = re.search(r"Tried to allocate ([\d.]+ \w+)", text)
    return f"{found[1]} more were asked for" if found else text.partition(". ")[0].rstrip(".")


def _largest(
    recipe: Recipe[Any], modules: Mapping[str, nn.Module], suspect: Suspect
) -> dict[str, int]:
    """Bytes by layer, largest first: weights with their gradients, and outputs of a whole batch.

    Outputs are those of the first sample, times how many there are.
    """
    for module in modules.values():
        module.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    size = len(suspect.samples)
    first = _first_sample(suspect.batch, size)
    with _count_outputs(modules) as held, evaluation_mode(modules), torch.no_grad():
        recipe.evaluate_batch(modules, first)
    sizes = {f"the outputs of '{name}'": one * size for name, one in held.items()}
    for name, module in modules.items():
        for path, part in module.named_modules(prefix=name):
            own = sum(p.nbytes for p in part.parameters(recurse=False) if p.requires_grad)
            sizes[f"weights and gradients of '{path}'"] = 2 * own
    ranked = sorted(sizes.items(), key=lambda pair: -pair[1])
    return {name: number for name, number in ranked[:MOST_NAMED] if number}


@contextlib.contextmanager
def _count_outputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """Filled with the bytes of the output of each layer that has none within it."""
    counted: dict[str, int] = {}

    def count(path: str, layer: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor) and next(layer.children(), None) is None:
            counted[path] = counted.get(path, 0) + output.nbytes

    with each_output(modules, count):
        yield counted


def _first_sample(value: Any, size: int) -> Any:
    """The first row of every tensor that has one for each sample."""
    if isinstance(value, Tensor):
        return value[:1] if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {key: _first_sample(one, size) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_first_sample(one, size) for one in value)
    return value


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"
