"""HTTP only: parse, authenticate, call a service, shape the answer."""

from fastapi import FastAPI

from ownvision.services.components import Components


def build(components: Components) -> FastAPI:
    """The service's application."""
    from ownvision.api.application import assemble

    return assemble(components)
