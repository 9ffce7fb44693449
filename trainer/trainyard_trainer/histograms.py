"""How weights and gradients are spread, for TensorBoard."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trainyard_trainer.events import Histogram

BUCKETS = 30


def histograms_of(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Histogram]]:
    """`weights/<module>.<parameter>` and `gradients/...`, which are those of the last step."""
    for name, module in modules.items():
        for path, parameter in module.named_parameters(prefix=name):
            for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
                if tensor is not None and (found := spread(tensor)):
                    yield f"{kind}/{path}", found


def spread(tensor: Tensor) -> Histogram | None:
    """Of the finite values; None where there are none."""
    values = tensor.detach().float()
    values = values[values.isfinite()]
    if values.numel() == 0:
        return None
    low, high = (value.item() for value in values.aminmax())
    counts = [float(values.numel())]
    if low < high:
        counts = torch.histc(values, BUCKETS, low, high).tolist()
    doubles = values.double()
    return Histogram(low, high, doubles.sum().item(), doubles.square().sum().item(), counts)
