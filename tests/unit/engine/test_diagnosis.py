"""What a run says when a step goes wrong: the step, the samples, the layer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unit.engine.tiny import Points, Tiny, TinyGan, manifests_of, tiny_rank, train

from trainyard_operator.contract import Cause
from trainyard_trainer.diagnosis import Diverged, name_samples
from trainyard_trainer.gpu_memory import GpuMemoryExhausted
from trainyard_trainer.recipe import Batch, Data, Loss, Modules, Stage
from trainyard_trainer.registry import recipe
from trainyard_trainer.sampler import ShuffledSampler

ADVICE = "Lower training.learning_rate, set training.clip_grad_norm, or look at these samples."


def samples_of_step(step: int) -> list[int]:
    """In the first epoch of a tiny run."""
    indices, _ = ShuffledSampler(45, 42).take(0, 8 * (step - 1), 8)
    found: list[int] = indices.tolist()
    return found


def divergence(rank: Any) -> str:
    with pytest.raises(Diverged) as caught:
        train(rank)
    return str(caught.value)


@pytest.mark.parametrize("more", [{}, {"precision": "bf16"}, {"micro_batch_size": 4}])
def test_loss_that_is_not_a_number_names_step_and_samples(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    rank = tiny_rank(tmp_path, config={"nan_at": 5, "training": more})
    first = samples_of_step(5)[: more.get("micro_batch_size")]
    assert divergence(rank) == (
        "Training diverged at step 5 of stage 'train' on rank 0: 'loss' is nan; every layer's "
        f"output was finite and the loss of 'main' was not, for {name_samples(first)}. {ADVICE}"
    )
    assert manifests_of(rank) == []


class Spoilt(Points):
    """Sample 17 has a hole."""

    def __init__(self, size: int, offset: int) -> None:
        super().__init__(size, offset)
        self.points[17, 3] = float("nan")


@recipe("tiny-spoilt")
class TinySpoilt(Tiny):
    """Without batch normalisation a hole stays in its row."""

    def build_data(self, stage: Stage) -> Data:
        return Data(train=Spoilt(45, 1), validation=Points(11, 2))


def test_spoilt_sample_is_named_alone(tmp_path: Path) -> None:
    step = next(step for step in range(1, 7) if 17 in samples_of_step(step))
    assert divergence(tiny_rank(tmp_path, recipe="tiny-spoilt")) == (
        f"Training diverged at step {step} of stage 'train' on rank 0: 'loss' is nan; sample 17 "
        f"held values that are not finite. {ADVICE}"
    )


class Logarithm(nn.Module):
    """Of what may be negative."""

    def forward(self, values: Tensor) -> Tensor:
        return values.log()


@recipe("tiny-logarithm")
class TinyLogarithm(Tiny):
    """The second layer fails for rows with a negative number."""

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": nn.Sequential(nn.Identity(), Logarithm(), nn.Linear(8, 2))}


def test_layer_and_the_rows_it_failed_for_are_named(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path, recipe="tiny-logarithm", config={"noise": 0})
    points = Points(45, 1).points
    bad = [sample for sample in samples_of_step(1) if (points[sample] < 0).any()]
    assert divergence(rank) == (
        "Training diverged at step 1 of stage 'train' on rank 0: 'loss' is nan; the first output "
        "that was not finite is that of layer 'model.1' (Logarithm), for "
        f"{name_samples(bad)}. {ADVICE}"
    )


@recipe("tiny-root")
class TinyRoot(Tiny):
    """From step 3 on, the slope of a square root at 0: finite forward, infinite backward."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        points, labels, _ = batch
        logits = modules["model"](points)
        loss = F.cross_entropy(logits, labels)
        if self.position.step >= 2:
            loss = loss + (logits - logits).abs().sqrt().sum()
        yield Loss("main", loss)


def test_gradient_that_is_not_finite_names_its_parameter(tmp_path: Path) -> None:
    config = {"training": {"clip_grad_norm": 1.0}}
    assert divergence(tiny_rank(tmp_path, recipe="tiny-root", config=config)) == (
        "Training diverged at step 3 of stage 'train' on rank 0: 'main_grad_norm' is nan; the "
        "loss was finite, and the gradient of 'model.4.bias' was not, for "
        f"{name_samples(samples_of_step(3))}. {ADVICE}"
    )


def test_gradient_that_nobody_looked_at_is_found_in_the_weights(tmp_path: Path) -> None:
    assert divergence(tiny_rank(tmp_path, recipe="tiny-root")) == (
        "Training diverged at step 4 of stage 'train' on rank 0: 'loss' is nan; the weights of "
        "'model.4.bias' were not finite any more when it began; step 3 read "
        f"{name_samples(samples_of_step(3))}. {ADVICE}"
    )


def test_second_optimizer_is_named(tmp_path: Path) -> None:
    @recipe("tiny-bad-gan")
    class TinyBadGan(TinyGan):
        """Its generator's loss fails."""

        def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
            for loss in super().losses(modules, batch):
                bad = float("inf") if loss.optimizer == "generator" else 1.0
                yield loss._replace(value=loss.value * bad)

    with pytest.raises(Diverged, match=r"'generator_loss' is (nan|-?inf); every layer's output"):
        train(tiny_rank(tmp_path, recipe="tiny-bad-gan"))


def test_failure_of_the_recipe_names_step_and_samples(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError) as caught:
        train(tiny_rank(tmp_path, config={"fail_at": 3}))
    named = name_samples(samples_of_step(3))
    assert caught.value.__notes__ == [f"in step 3 of stage 'train' on rank 0, {named}"]


@recipe("tiny-large")
class TinyLarge(Tiny):
    """Fails as CUDA does where memory is short."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        if self.position.step == 2:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 80"
            )
        yield from super().losses(modules, batch)

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        if self.position.step == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0")
        return super().evaluate_batch(modules, batch)


def test_memory_that_is_short_is_told_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(GpuMemoryExhausted) as caught:
        train(tiny_rank(tmp_path, recipe="tiny-large"))
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert str(caught.value) == (
        "GPU memory is exhausted at step 3: 2.00 GiB more were asked for; the most is held by "
        "weights and gradients of 'model.0' (1.12 KiB), the outputs of 'model.0' (512 B), the "
        "outputs of 'model.1' (512 B); write training.micro_batch_size: 4, half of what a rank "
        "holds now."
    )


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([], "no samples"),
        ([4], "sample 4"),
        ([4, 2], "samples 4, 2"),
        (list(range(10)), "samples 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"),
    ],
)
def test_samples_are_named_up_to_a_number(samples: list[int], text: str) -> None:
    assert name_samples(samples) == text
