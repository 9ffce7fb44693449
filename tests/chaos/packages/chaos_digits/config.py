"""The same as classification."""

from trainyard_trainer.recipes.classification.config import Config

__all__ = ["Config"]
