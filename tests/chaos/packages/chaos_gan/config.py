"""What every recipe can be told, and no more."""

from trainyard_trainer.config import RecipeConfig


class Config(RecipeConfig):
    """Of the small GAN."""
