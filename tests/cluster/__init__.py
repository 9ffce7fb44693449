"""A real Kubernetes with two nodes and a real S3, on one machine, from package registries alone."""
