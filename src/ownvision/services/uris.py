"""Signed, expiring addresses of bytes, in the original's forms; they need no key.

``/i-<project>/i-<image>`` is the picture for training (`r-` its resized copy where there is one), ``t-`` its thumbnail,
``/predictionimages/<project>/o-<id>`` a stored prediction's, ``/m-<project>/<iteration>.<platform>.zip`` an export's,
``/prjexp-<project>/project-export-info`` a whole project's (the token of ExportProject), ``/takeouts/<owner>/<id>.zip``
a takeout's; its owner is a project, or the account.
"""

import hmac
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qs, quote, urlsplit

from ownvision.errors import OwnVisionError
from ownvision.services.components import Components
from ownvision.store import ledger
from ownvision.store.tables.base import now

ORIGINAL, RESIZED, THUMBNAIL = "original", "resized", "thumbnail"
_FILE_BY_LETTER = {"i": ORIGINAL, "o": ORIGINAL, "r": RESIZED, "t": THUMBNAIL}
_IMAGE = re.compile(r"^/i-(?P<project>[0-9a-f]{32})/(?P<letter>[irt])-(?P<id>[0-9a-f]{32})$")
_PREDICTION = re.compile(r"^/predictionimages/(?P<project>[0-9a-f-]{36})/(?P<letter>[ort])-(?P<id>[0-9a-f]{32})$")
_PROJECT = re.compile(r"^/prjexp-(?P<project>[0-9a-f]{32})/project-export-info$")
_TAKEOUT = re.compile(r"^/takeouts/(?P<owner>[0-9a-f]{32})/(?P<id>[0-9a-f]{32})\.zip$")
_EXPORT = re.compile(r"^/m-(?P<project>[0-9a-f]{32})/(?P<id>[0-9a-f]{32})\.[A-Za-z0-9.]+\.zip$")


@dataclass(frozen=True)
class Resource:
    """What an address stands for: a blob prefix and the file under it."""

    kind: str  # image | prediction | export | takeout
    project_id: str  # of a whole account's takeout the account's
    object_id: str
    prefix: str
    file: str

    @property
    def tag(self) -> str:
        """What tells its bytes from others: the id in its prefix."""
        return self.prefix.rstrip("./").rpartition("/")[2]


def image_path(project_id: str, image_id: str, file: str) -> str:
    """Path of an image's `original`, `resized` or `thumbnail`."""
    letter = {ORIGINAL: "i", RESIZED: "r", THUMBNAIL: "t"}[file]
    return f"/i-{_plain(project_id)}/{letter}-{_plain(image_id)}"


def prediction_path(project_id: str, prediction_id: str, file: str) -> str:
    """Path of a stored prediction's `original`, `resized` or `thumbnail`."""
    letter = {ORIGINAL: "o", RESIZED: "r", THUMBNAIL: "t"}[file]
    return f"/predictionimages/{project_id}/{letter}-{_plain(prediction_id)}"


def export_path(project_id: str, export_id: str, platform: str, flavor: str | None) -> str:
    """Path of an export's archive."""
    kind = f"{platform}.{flavor}" if flavor else platform
    return f"/m-{_plain(project_id)}/{_plain(export_id)}.{kind}.zip"


def takeout_path(owner_id: str, takeout_id: str) -> str:
    """Path of a takeout's archive."""
    return f"/takeouts/{_plain(owner_id)}/{_plain(takeout_id)}.zip"


def sign(components: Components, base_url: str, path: str) -> str:
    """An absolute address that works until it expires, without a key.

    The expiry is rounded up to the hour, so that the same address is given out for a while and browsers can cache.
    """
    expiry = _rounded_up(int(time.time()) // 3600 + components.settings.uri_hours + 1)
    signature = components.keys.sign_uri(f"{path}\n{expiry}".encode())  # URL-safe as it is
    base = (components.settings.public_url or base_url).rstrip("/")
    return f"{base}{path}?sv=2017-04-17&sr=b&sig={signature}&se={quote(expiry, safe='')}&sp=r"


@lru_cache
def _rounded_up(hour: int) -> str:
    return datetime.fromtimestamp(3600 * hour, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resolve(components: Components, path: str, query: str) -> Resource:
    """What a signed address stands for.

    Raises:
        OwnVisionError: NotFound for no such address, Forbidden for a wrong or lapsed signature.
    """
    resource = parse(path)
    if resource is None:
        raise OwnVisionError("NotFound", "There is nothing at this address.")
    given = {name: values[0] for name, values in parse_qs(query).items()}
    expiry = given.get("se", "")
    expected = components.keys.sign_uri(f"{path}\n{expiry}".encode())
    # Signatures are compared in constant time: this is a public door.
    if not _same(expected, given.get("sig", "")):
        raise OwnVisionError("Forbidden", "This address is not signed by this service; ask the API for a new one.")
    if datetime.fromisoformat(expiry) < now():
        raise OwnVisionError("Forbidden", "This address has expired; ask the API for a new one.")
    return resource


def sign_project(components: Components, base_url: str, project_id: str, export_id: str, expires: datetime) -> str:
    """The address of a whole project, by one row of `ProjectExport`; it works until the row goes or expires."""
    path = f"/prjexp-{_plain(project_id)}/project-export-info"
    expiry = expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = components.keys.sign_uri(f"{path}\n{export_id}\n{expiry}".encode())
    base = (components.settings.public_url or base_url).rstrip("/")
    return f"{base}{path}?id={export_id}&sv=2017-04-17&sr=b&sig={signature}&se={quote(expiry, safe='')}&sp=r"


def is_project(path: str) -> bool:
    """Whether a path has the form of a whole project's address."""
    return _PROJECT.match(path) is not None


def resolve_project(components: Components, path: str, query: str) -> str | None:
    """The id of the `ProjectExport` row that an address was signed for; None when this service did not sign it.

    Whether the row is still there, and has not expired, is for the caller to see.
    """
    given = {name: values[0] for name, values in parse_qs(query).items()}
    export_id = given.get("id", "")
    expected = components.keys.sign_uri(f"{path}\n{export_id}\n{given.get('se', '')}".encode())
    return export_id if is_project(path) and _same(expected, given.get("sig", "")) else None


def own_path(components: Components, base_url: str, address: str) -> str | None:
    """The path, below this service's root, of an address that begins as its own do; None for any other.

    Args:
        components: Of the service.
        base_url: The address it was called by.
        address: An absolute address, or a path.
    """
    try:
        parts = urlsplit(address)
        origins = [_origin(base) for base in (base_url, components.settings.public_url) if base]
        if (parts.scheme or parts.netloc) and _origin(address) not in origins:
            return None
    except ValueError:
        return None
    root = urlsplit(components.settings.public_url or "").path.rstrip("/")
    path = parts.path.removeprefix(root) if root else parts.path
    return path if path.startswith("/") else f"/{path}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def parse(path: str) -> Resource | None:
    """What a path stands for, signed or not; None for none of these addresses."""
    if match := _IMAGE.match(path):
        project_id, id = _dashed(match["project"]), _dashed(match["id"])
        return Resource("image", project_id, id, ledger.image_prefix(project_id, id), _FILE_BY_LETTER[match["letter"]])
    if match := _PREDICTION.match(path):
        project_id, id = match["project"], _dashed(match["id"])
        return Resource(
            "prediction", project_id, id, ledger.prediction_prefix(project_id, id), _FILE_BY_LETTER[match["letter"]]
        )
    if match := _EXPORT.match(path):
        project_id, id = _dashed(match["project"]), _dashed(match["id"])
        return Resource("export", project_id, id, ledger.export_prefix(project_id, id), "archive.zip")
    if match := _TAKEOUT.match(path):
        owner_id, id = _dashed(match["owner"]), _dashed(match["id"])
        return Resource("takeout", owner_id, id, ledger.takeout_prefix(owner_id, id), "archive.zip")
    return None


def _plain(id: str) -> str:
    return id.replace("-", "")


def _dashed(id: str) -> str:
    return str(uuid.UUID(id))


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
