"""The service's OpenAPI: one document of the newest versions and the own API, and one for each version.

A version's document is the newest one seen through its row in `versions`: what it does not serve is left out, its
models have its keys.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ownvision.api import models
from ownvision.api.auth import HEADERS
from ownvision.api.errors import unknown_path
from ownvision.api.routes import BASE
from ownvision.api.wire import seconds
from ownvision.limits import Limits
from ownvision.wire.versions import EARLIER_PATHS, LATEST, PREDICTION, TRAINING, VERSIONS, Version

Document = dict[str, Any]
_KEYS = {name: {"type": "apiKey", "in": "header", "name": name} for name in HEADERS.values()}
_VERSION: Document = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "description": "Version of the API.", "title": "Version"},
    "description": "Version of the API.",
}
_NEWEST = {TRAINING: LATEST, PREDICTION: VERSIONS[PREDICTION, "v3.1"]}


class Documents:
    """The documents of an application, made when first asked for.

    Args:
        app: With all its routes.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._whole: Document | None = None

    def newest(self) -> Document:
        """What the newest version of each API has, and the service's own API."""
        whole = self._document()
        paths: Document = {}
        for path, item in whole["paths"].items():
            version = _NEWEST.get(_api(path) or "")
            paths |= {path: item} if version is None else _served(path, item, version)
        return {**whole, "paths": paths}

    async def of_version(self, api: str, version: str) -> Document:
        """What one version of ``training`` or ``prediction`` has."""
        at = VERSIONS.get((api, version))
        if at is None:
            raise unknown_path()
        whole = self._document()
        paths: Document = {}
        for path, item in whole["paths"].items():
            if _api(path) == api:
                paths |= _served(path, item, at)
        schemas = {name: _seen(name, schema, at) for name, schema in whole["components"]["schemas"].items()}
        return {
            **whole,
            "info": {**whole["info"], "title": f"Custom Vision {api.capitalize()} API", "version": version},
            "paths": paths,
            "components": {**whole["components"], "schemas": schemas},
        }

    def _document(self) -> Document:
        if self._whole is None:
            app = self._app
            whole = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
            )
            # The one body that is not parsed by the framework, since it streams.
            batch = models.ImageFileCreateBatch.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = whole["components"]["schemas"]
            schemas |= {**batch.pop("$defs"), "ImageFileCreateBatch": batch, **schemas}
            whole["components"]["securitySchemes"] = _KEYS
            limits: Limits = app.state.components.settings.limits
            for path, item in whole["paths"].items():
                for operation in item.values():
                    if _api(path):
                        operation["parameters"] = [_VERSION, *operation.get("parameters", ())]
                    for parameter in operation.get("parameters", ()):
                        _describe(parameter, limits)
            self._whole = whole
        return self._whole


def _api(path: str) -> str | None:
    return next((api for api in _NEWEST if path.startswith(BASE + api)), None)


def _served(path: str, item: Document, version: Version) -> Document:
    """A path as a version has it: none where it doesn't serve it, two where it had another."""
    found: Document = {}
    for method, operation in item.items():
        id = operation["operationId"]
        if not version.serves(id):
            continue
        kept = [one for one in operation.get("parameters", ()) if one["name"] != "version"]
        responses = {code: one for code, one in operation["responses"].items() if _answers(code, version)}
        if version.tag_list and id == "GetTags":
            responses["200"] = {"description": "Tags and counts of images."}
        shown = {**operation, "parameters": kept, "responses": responses}
        found.setdefault(path.replace("{version}", version.name), {})[method] = shown
        for at, until in EARLIER_PATHS.get(id, {}).items():
            if version.serves(id, at):
                earlier = f"{BASE}{version.api}{at}".replace("{version}", version.name)
                found.setdefault(earlier, {})[method] = {**shown, "operationId": f"{id}_{until}"}
    return found


def _answers(code: str, version: Version) -> bool:
    return (code != "207" or version.partial == 207) and (code != "202" or version.begun == 202)


def _seen(name: str, schema: Document, version: Version) -> Document:
    """A model as a version has it."""
    properties = schema.get("properties")
    if properties is None:
        return schema
    keys = version.keys(name) or tuple((key, key) for key in properties)
    required = set(schema.get("required", ()))
    return {
        **schema,
        "properties": {version.named(key): _dated(properties.get(source, {}), version) for key, source in keys},
        "required": [version.named(key) for key, source in keys if source in required],
    }


def _dated(property: Document, version: Version) -> Document:
    """Dates of old versions have no zone: JSON Schema knows no name for their form."""
    if version.project_dates is seconds or "date-time" not in str(property):
        return property
    return {"title": property.get("title", "")}


def _describe(parameter: Document, limits: Limits) -> None:
    if parameter["name"] == "take":
        parameter["schema"]["maximum"] = limits.page
    elif parameter["schema"].get("type") == "array":
        parameter |= {"style": "form", "explode": False}
