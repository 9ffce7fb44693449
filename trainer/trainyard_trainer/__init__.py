"""The Trainyard trainer: recipes, the DDP engine, checkpoints and storage."""
