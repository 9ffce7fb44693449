"""What `noted` can be told."""

from trainyard_trainer.config import RecipeConfig


class Config(RecipeConfig):
    """Beside the common sections."""

    steps: int = 1600
    """Optimizer steps of the run."""
    pause_seconds: float = 0.002
    """Before each step, in place of work that a GPU would do."""
