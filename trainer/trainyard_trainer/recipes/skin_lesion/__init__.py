"""Skin lesions of HAM10000: three networks, freezing and unfreezing, grouped splits."""
