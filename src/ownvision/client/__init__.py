"""A small client of the public API: what the commands `upload`, `train`, `predict` and `export` call.

It knows HTTP only, so it works against any OwnVision, and with the same calls against the original service.
"""

from ownvision.client.http import ClientError, Service

__all__ = ["ClientError", "Service"]
