"""One folder a recipe: configuration, networks, losses, data and metrics."""
