"""CT metal-artefact reduction: an NGswin generator against a multi-scale PatchGAN."""
