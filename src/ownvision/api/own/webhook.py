"""A project's webhook."""

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ownvision.api.models import Guid, Wire
from ownvision.api.parameters import ProjectId
from ownvision.api.routes import Call, TheCall, operation, own
from ownvision.api.wire import Json, empty
from ownvision.errors import OwnVisionError
from ownvision.services import outbound, projects, webhooks
from ownvision.services.webhooks import Webhook

router = own()
_PATH = "/projects/{projectId}/webhook"


class WebhookChange(Wire):
    """Where to send events; a secret is made when none is given."""

    url: str
    secret: str | None = None


class WebhookAddress(Wire):
    """Where events are sent."""

    project_id: Guid
    url: str


class WebhookSecret(WebhookAddress):
    """The same with the secret that signs, which is shown once."""

    secret: str


@operation(router, "PUT", _PATH, WebhookSecret)
async def put_webhook(call: TheCall, project_id: ProjectId, change: WebhookChange) -> Json:
    """Send a project's events to an address from now on; this answer alone shows the secret."""
    settings = call.components.settings
    await run_in_threadpool(_webhook, call, project_id)
    door = outbound.door(settings.url_allow, settings.url_timeout)
    webhook = await webhooks.checked(door, change.url, change.secret or None)
    await run_in_threadpool(_keep, call, project_id, webhook)
    return Json({"projectId": project_id, "url": webhook.url, "secret": webhook.secret})


@operation(router, "GET", _PATH, WebhookAddress)
def get_webhook(call: TheCall, project_id: ProjectId) -> Json:
    """Where a project's events are sent."""
    webhook = _webhook(call, project_id)
    if webhook is None:
        raise OwnVisionError("NotFound", f"Project {project_id} has no webhook.")
    return Json({"projectId": project_id, "url": webhook.url})


@operation(router, "DELETE", _PATH, None, status=(204,))
def delete_webhook(call: TheCall, project_id: ProjectId) -> Response:
    """Send no more of a project's events, nor those that still wait."""
    with call.database.write() as session:
        webhooks.remove(session, projects.get(session, call.account_id, project_id, lock=True))
    return empty()


def _webhook(call: Call, project_id: str) -> Webhook | None:
    with call.database.read() as session:
        return webhooks.of(call.components.keys, projects.get(session, call.account_id, project_id))


def _keep(call: Call, project_id: str, webhook: Webhook) -> None:
    with call.database.write() as session:
        project = projects.get(session, call.account_id, project_id, lock=True)
        webhooks.keep(session, call.components.keys, project, webhook)
