"""Where a step went wrong: the samples it read, and the layer that was the first to fail.

Nothing here runs while all goes well. Once it does not, a rank's batch of that step is computed
once more with a hook on every layer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.recipe import Batch, Recipe

MOST_NAMED = 8
"""Samples that a message names."""


class Diverged(TrainyardError):
    """A loss or a gradient became NaN or infinite; the same sentence on every rank."""

    def __init__(self, step: int, stage: str, rank: int, what: str, where: str) -> None:
        self.step, self.stage, self.rank, self.what, self.where = step, stage, rank, what, where
        super().__init__(
            f"Training diverged at step {step} of stage '{stage}' on rank {rank}: {what}; {where}. "
            "Lower training.learning_rate, set training.clip_grad_norm, or look at these samples."
        )


class Finding(NamedTuple):
    """The first thing that is not finite when a batch is computed once more."""

    where: str
    is_certain: bool = True
    """Whether this batch shows it."""
    is_older: bool = False
    """Whether the weights were spoilt before it."""


class Suspect(NamedTuple):
    """A micro-batch on the device."""

    batch: Batch
    samples: list[int]


def name_samples(samples: Sequence[int]) -> str:
    """`samples 3, 17 and 29 more`."""
    if not samples:
        return "no samples"
    more = len(samples) - MOST_NAMED
    text = ", ".join(str(sample) for sample in samples[:MOST_NAMED])
    word = "sample" if len(samples) == 1 else "samples"
    return f"{word} {text} and {more} more" if more > 0 else f"{word} {text}"


def examine(
    recipe: Recipe[Any],
    modules: Mapping[str, nn.Module],
    suspects: Sequence[Suspect],
    autocast: AbstractContextManager[Any],
) -> Finding:
    """Compute one rank's part of a step once more, without changing any weights.

    modules: not wrapped; gradients are left behind. Every rank may do it at the same time.
    """
    spoilt = [name for name, p in _parameters(modules) if not _is_finite(p)]
    if spoilt:
        where = f"the weights of '{spoilt[-1]}' were not finite any more when it began"
        return Finding(where, is_certain=False, is_older=True)
    for suspect in suspects:
        found = _examine_one(recipe, modules, suspect, autocast)
        if found is not None:
            return found
    every = [sample for suspect in suspects for sample in suspect.samples]
    return Finding(f"it read {name_samples(every)}, with which all is finite now", is_certain=False)


def _examine_one(
    recipe: Recipe[Any],
    modules: Mapping[str, nn.Module],
    suspect: Suspect,
    autocast: AbstractContextManager[Any],
) -> Finding | None:
    bad = _bad_samples(suspect, _tensors(suspect.batch))
    if bad:
        return Finding(f"{name_samples(bad)} held values that are not finite")
    for module in modules.values():
        module.zero_grad()
    with _watch_outputs(modules) as outputs:
        stream = recipe.losses(modules, suspect.batch)
        with autocast:
            loss = next(stream, None)
        while loss is not None:
            if not _is_finite(loss.value):
                return _blame_forward(outputs, suspect, loss.optimizer)
            loss.value.backward()
            if blamed := _blame_gradient(modules, suspect):
                return blamed
            with autocast:
                loss = next(stream, None)
    return None


def _blame_forward(
    outputs: list[tuple[str, list[Tensor]]], suspect: Suspect, optimizer: str
) -> Finding:
    if not outputs:
        where = f"every layer's output was finite and the loss of '{optimizer}' was not"
        return Finding(f"{where}, for {name_samples(suspect.samples)}")
    name, tensors = outputs[0]
    samples = _bad_samples(suspect, tensors) or suspect.samples
    return Finding(
        f"the first output that was not finite is that of layer {name}, for {name_samples(samples)}"
    )


def _blame_gradient(modules: Mapping[str, nn.Module], suspect: Suspect) -> Finding | None:
    """The parameter nearest to the loss: a backward pass spoils all that come after."""
    bad = [
        name for name, p in _parameters(modules) if p.grad is not None and not _is_finite(p.grad)
    ]
    if not bad:
        return None
    where = f"the loss was finite, and the gradient of '{bad[-1]}' was not"
    return Finding(f"{where}, for {name_samples(suspect.samples)}")


@contextmanager
def _watch_outputs(
    modules: Mapping[str, nn.Module],
) -> Iterator[list[tuple[str, list[Tensor]]]]:
    """Filled with layers and their outputs that are not finite, in the forward pass's order."""
    found: list[tuple[str, list[Tensor]]] = []

    def look(path: str, layer: nn.Module, output: Any) -> None:
        tensors = _tensors(output)
        if not all(_is_finite(tensor) for tensor in tensors):
            found.append((f"'{path}' ({type(layer).__name__})", tensors))

    with each_output(modules, look):
        yield found


@contextmanager
def each_output(
    modules: Mapping[str, nn.Module], look: Callable[[str, nn.Module, Any], None]
) -> Iterator[None]:
    """Inside, `look` gets the path of each layer, the layer and its output, as soon as it is there.

    A layer within a layer comes first.
    """
    handles = []
    for name, module in modules.items():
        for path, layer in module.named_modules(prefix=name):

            def hook(layer: nn.Module, _: Any, output: Any, path: str = path) -> None:
                look(path, layer, output)

            handles.append(layer.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _bad_samples(suspect: Suspect, tensors: Sequence[Tensor]) -> list[int]:
    """Samples whose rows are not finite, where some rows are and there is a row for each."""
    size = len(suspect.samples)
    for tensor in tensors:
        if tensor.ndim == 0 or len(tensor) != size or _is_finite(tensor):
            continue
        rows = ~torch.isfinite(tensor.detach()).reshape(size, -1).all(dim=1)
        return [suspect.samples[row] for row in rows.nonzero().flatten().tolist()]
    return []


def _tensors(value: Any) -> list[Tensor]:
    """Those with real numbers in a batch or an output, however nested."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [tensor for one in value.values() for tensor in _tensors(one)]
    if isinstance(value, list | tuple):
        return [tensor for one in value for tensor in _tensors(one)]
    if hasattr(value, "__dataclass_fields__"):
        return _tensors([getattr(value, name) for name in value.__dataclass_fields__])
    return []


def _parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        yield from module.named_parameters(prefix=name)


def _is_finite(tensor: Tensor) -> bool:
    return math.isfinite(tensor.item()) if tensor.ndim == 0 else bool(tensor.isfinite().all())
