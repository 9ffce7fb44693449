"""Every recipe's networks as programs of torch.export, read back and compared with the original."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_cases import BY_NAME, Case

from trainyard_trainer.card import Card
from trainyard_trainer.export import ExportFailed, export_networks
from trainyard_trainer.trained import open_trained

pytestmark = pytest.mark.slow
INPUTS = {
    "classification": {"model": (3, 24, 24)},
    "skin-lesion": {"model": (3, 24, 24)},
    "mar-gan": {"generator": (1, 32, 32)},
    "lung-nodule": {"model": (1, 8, 8, 8)},
    "csr": {"csr": (3, 48, 48)},
}


def test_the_program_computes_what_the_network_does(
    case: Case, card: Card, weights: Path, tmp_path: Path
) -> None:
    with open_trained(card, weights) as trained:
        found = list(export_networks(trained, tmp_path))
        assert {one.module: one.input_shape for one in found} == INPUTS[case.recipe]
        (one,) = found
        assert one.has_any_batch
        assert one.difference <= 1e-6
        module, images = trained.modules[one.module], torch.rand(3, *one.input_shape)
        with torch.no_grad():
            program = torch.export.load(one.file).module()
            torch.testing.assert_close(program(images), module.eval()(images))


@pytest.mark.parametrize("case", [BY_NAME["classification"]], indirect=True)
def test_a_program_that_computes_something_else_is_refused(
    card: Card, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_trained(card, weights) as trained:
        trace = torch.export.export

        def trace_another(network: torch.nn.Module, *given: Any, **more: Any) -> Any:
            other = copy.deepcopy(network)
            torch.nn.init.constant_(other.get_parameter("classifier.bias"), 3.0)
            return trace(other, *given, **more)

        monkeypatch.setattr(torch.export, "export", trace_another)
        with pytest.raises(ExportFailed, match=r"differs from its network by .*; do not use it\."):
            list(export_networks(trained, tmp_path))
