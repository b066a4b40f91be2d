"""The domains that a project can start from."""

from ownvision.api import models
from ownvision.api.parameters import DomainId
from ownvision.api.routes import TheCall, operation, training
from ownvision.api.wire import Json
from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.wire import shapes

router = training("domains")


@operation(router, "GET", "/domains", list[models.Domain])
async def get_domains(call: TheCall) -> Json:
    """Get a list of the available domains."""
    return call.json([shapes.domain(row, call.version) for row in DOMAINS.values()])


@operation(router, "GET", "/domains/{domainId}", models.Domain)
async def get_domain(call: TheCall, domain_id: DomainId) -> Json:
    """Get information about a specific domain."""
    row = DOMAINS.get(domain_id)
    if row is None:
        raise OwnVisionError("NotFoundDomain", f"There is no domain {domain_id}; see GetDomains.")
    return call.json(shapes.domain(row, call.version))
