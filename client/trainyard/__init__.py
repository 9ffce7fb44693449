"""The Trainyard client: command line, Python SDK and the local runner."""

__version__ = "0.1.0"
