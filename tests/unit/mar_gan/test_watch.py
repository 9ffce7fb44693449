import pytest
import torch

from trainyard_trainer.recipes.mar_gan.watch import Watch, is_oscillating


def epochs(name: str, *values: float, scales: int = 1) -> list[str]:
    watch = Watch()
    found = []
    for epoch, value in enumerate(values, start=1):
        watch.add(name, torch.tensor(value + 0.01))
        watch.add(name, torch.tensor(value - 0.01))
        found += watch.end_epoch(epoch, scales)
    assert watch.warnings == found
    return found


def test_a_discriminator_that_has_won_is_told_once_an_epoch_with_what_to_lower() -> None:
    assert epochs("discriminator", 1.2, 0.04) == [
        "Epoch 2: the discriminator's loss fell to 0.04, so that the generator learns nothing from "
        "it; lower training.loss_weights.adversarial."
    ]
    assert epochs("discriminator", 0.12, scales=2) == []
    assert len(epochs("discriminator", 0.12, scales=3)) == 1


def test_a_physics_loss_that_swings_is_told() -> None:
    assert epochs("physics", 2, 1, 2, 1, 2, 1, 2, 1) == [
        "Epoch 7: the physics loss has swung up and down for 5 epochs; lower "
        "training.loss_weights.physics or training.learning_rate."
    ]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([7, 6, 5, 4, 3, 2, 1], id="falls"),
        pytest.param([1, 1.01, 1, 1.01, 1, 1.01, 1], id="hardly moves"),
        pytest.param([7, 6, 7, 6, 5, 6, 5], id="goes the same way twice"),
        pytest.param([2, 1, 2, 1, 2], id="has not been watched for long"),
    ],
)
def test_other_losses_do_not_oscillate(values: list[float]) -> None:
    assert not is_oscillating(values)
