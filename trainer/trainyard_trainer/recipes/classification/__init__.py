"""Image classification, on one fixed split or with cross-validation."""
