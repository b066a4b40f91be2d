"""The official Python SDK, 3.1.1, against the running service."""
