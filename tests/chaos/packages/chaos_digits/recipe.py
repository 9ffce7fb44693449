"""Classification with a network small enough that ten deaths are a matter of a minute."""

from chaos_witness import Witness
from torch import Tensor, nn

from trainyard_trainer.recipes.classification.recipe import Classification
from trainyard_trainer.registry import recipe


class TinyCNN(nn.Module):
    """Everything that keeps state: batch norm's averages, and dropout's generator."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
        )
        self.classifier = nn.Linear(4 * 4 * 4, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, 8, 8), grey. Returns logits (B, classes)."""
        logits: Tensor = self.classifier(self.features(images[:, :1]).flatten(1))
        return logits


@recipe("chaos-digits")
class ChaosDigits(Witness, Classification):
    """Data, losses, metrics and reports are those of the recipe that everybody uses."""

    def build_modules(self) -> dict[str, nn.Module]:
        network = TinyCNN(len(self.folder.classes))
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        return {"model": network}
