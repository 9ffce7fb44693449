"""The same as the recipe that is timed."""

from trainyard_trainer.recipes.classification.config import Config

__all__ = ["Config"]
