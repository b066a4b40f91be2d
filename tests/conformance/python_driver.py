"""Calls every operation of one version of the official Python client; runs in that client's own environment.

Nothing but the standard library and the client is imported here. What is read and sent is printed, one JSON object per
line; `wire.py` judges it. The first argument names a JSON file with the facts: endpoint, keys, pictures.
"""

import importlib
import inspect
import json
import re
import sys
import traceback
from datetime import datetime, timedelta
from enum import EnumMeta
from urllib.parse import urlsplit

import python_life
from msrest import Deserializer

ROOT = "azure.cognitiveservices.vision.customvision"
CLASSES = {
    "training": ("CustomVisionTrainingClient", "TrainingApi"),
    "prediction": ("CustomVisionPredictionClient", "PredictionEndpoint"),
}
HEADERS = {"training": "Training-Key", "prediction": "Prediction-Key"}
OWN_PARAMETERS = {"self", "custom_headers", "raw", "callback", "operation_config"}
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "iso-8601": datetime, "duration": timedelta}


def emit(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)


class Recorder(Deserializer):
    """The client's own deserialiser, which tells what type the operation declared."""

    declared = None

    def __call__(self, target, response, content_type=None):
        self.declared = target
        return super().__call__(target, response, content_type)


def client_of(api, endpoint, key):
    """The client of an API as its version wants to be made."""
    module = importlib.import_module(f"{ROOT}.{api}")
    kind = next(getattr(module, name) for name in CLASSES[api] if hasattr(module, name))
    parameters = inspect.signature(kind.__init__).parameters
    if "credentials" in parameters:
        from msrest.authentication import ApiKeyCredentials

        client = kind(endpoint, ApiKeyCredentials(in_headers={HEADERS[api]: key}))
    elif "endpoint" in parameters:
        client = kind(key, endpoint)
    else:
        client = kind(key, base_url=endpoint + urlsplit(kind(key).config.base_url).path)
    client._deserialize = Recorder(client._deserialize.dependencies)
    client.config.connection.timeout = 120
    return client


def models_of(api):
    return importlib.import_module(f"{ROOT}.{api}.models")


def operations_of(client):
    """Every operation of a client: what carries an address."""
    found = {}
    for name, member in inspect.getmembers(type(client), inspect.isfunction):
        if "url" in getattr(member, "metadata", {}):
            found[name] = [p for p in inspect.signature(member).parameters if p not in OWN_PARAMETERS]
    return found


def values_of(model, attribute):
    """The values that the client's documentation gives an attribute; empty when it is no enumeration."""
    text = re.search(rf":(?:ivar|param) {attribute}: (.*?)(?=\n\s*:|\Z)", model.__doc__ or "", re.DOTALL)
    _, stated, values = (text.group(1) if text else "").partition("ossible values include")
    return re.findall(r"'([^']*)'", re.split(r"(?<='|\w)\.\s", values)[0]) if stated else []


def schema_of(models):
    """attribute, wire name, type and values of every model's attributes, in the client's order."""
    return {
        name: [
            [attribute, spec["key"].replace("\\\\.", "."), spec["type"], values_of(model, attribute)]
            for attribute, spec in model._attribute_map.items()
        ]
        for name, model in vars(models).items()
        if isinstance(model, type) and hasattr(model, "_attribute_map")
    }


def differences(value, declared, raw, models, path):
    """How a deserialised value is not what its declared type makes of the JSON."""
    if raw is None or value is None:
        return [] if raw is value else [f"{path}: {raw!r} was read as {value!r}"]
    if declared.startswith("[") or declared.startswith("{"):
        keys = range(len(raw)) if declared.startswith("[") else raw
        if type(value) is not type(raw) or len(value) != len(raw):
            return [f"{path}: {declared} was read as {value!r}"]
        inner = declared[1:-1]
        return [text for key in keys for text in differences(value[key], inner, raw[key], models, f"{path}[{key}]")]
    if declared in TYPES:
        right = type(value) is TYPES[declared] and (declared in ("iso-8601", "duration") or value == raw)
        return [] if right else [f"{path}: {raw!r} was read as {value!r}, not as {declared}"]
    model = getattr(models, declared)
    if isinstance(model, EnumMeta):
        return [] if getattr(value, "value", value) == raw else [f"{path}: {raw!r} was read as {value!r}"]
    if not isinstance(value, model):
        return [f"{path}: was read as {type(value).__name__}, not as {declared}"]
    return [
        text
        for attribute, spec in model._attribute_map.items()
        for text in differences(
            getattr(value, attribute), spec["type"], raw.get(spec["key"]), models, f"{path}.{attribute}"
        )
    ]


class OperationFailed(Exception):
    """An operation raised what its client raises; it is recorded already."""


class Run:
    """One client's run: calls operations and prints what came of each.

    Attributes:
        facts: What the suite hands over.
        supplied: The parameters that an operation was called with so far.
    """

    def __init__(self, facts):
        self.facts = facts
        self.clients = {
            api: client_of(api, facts["endpoint"], facts[api + "_key"]) for api in ("training", "prediction")
        }
        self.versions = {
            api: re.search(r"customvision/(v[^/]+)/", client.config.base_url).group(1)
            for api, client in self.clients.items()
        }
        self.operations = {api: operations_of(client) for api, client in self.clients.items()}
        self.supplied = {name: set() for operations in self.operations.values() for name in operations}
        emit(
            "client",
            versions=self.versions,
            operations=self.operations,
            schema={api: schema_of(models_of(api)) for api in self.clients},
        )

    def has(self, operation):
        return operation in self.supplied

    def takes(self, operation, parameter):
        """Whether this version's operation has a parameter."""
        return any(parameter in found.get(operation, ()) for found in self.operations.values())

    def model(self, kind, /, **fields):
        """A model with those of the fields that this version's has; None when it has no such model."""
        model = getattr(models_of("training"), kind, None)
        return model and model(**{key: value for key, value in fields.items() if key in model._attribute_map})

    def problem(self, operation, text):
        emit("problem", operation=operation, text=text)

    def expect(self, operation, condition, text):
        if not condition:
            self.problem(operation, text)

    def equal(self, operation, got, wanted, what):
        self.expect(operation, got == wanted, f"{what} is {got!r}, not {wanted!r}")

    def call(self, operation, **given):
        """Call an operation with those of the arguments that this version takes, and record the answer."""
        api = next(api for api, found in self.operations.items() if operation in found)
        client = self.clients[api]
        arguments = {key: value for key, value in given.items() if key in self.operations[api][operation]}
        self.supplied[operation] |= set(arguments)
        client._deserialize.declared = None
        try:
            result = getattr(client, operation)(raw=True, **arguments)
        except Exception as error:
            body = getattr(getattr(error, "response", None), "text", "")
            self.problem(operation, f"{type(error).__name__}: {error} {body}"[:2000])
            raise OperationFailed(operation) from error
        response = result.response
        stream = operation == "get_artifact"
        declared = "stream" if stream else client._deserialize.declared
        emit(
            "exchange",
            api=api,
            operation=operation,
            declared=declared,
            status=response.status_code,
            headers=dict(response.headers),
            body="" if stream else response.text,
        )
        if stream:
            return b"".join(result.output)
        if declared is not None:
            raw = json.loads(response.text)
            for text in differences(result.output, declared, raw, models_of(api), operation):
                self.problem(operation, text)
        self.headers = response.headers
        return result.output

    def refused(self, api, operation, case, key=None, **given):
        """Call an operation that must be refused, and print how it was."""
        client = self.clients[api] if key is None else client_of(api, self.facts["endpoint"], key)
        arguments = {name: value for name, value in given.items() if name in self.operations[api][operation]}
        try:
            getattr(client, operation)(**arguments)
        except Exception as error:
            response = getattr(error, "response", None)
            if response is None:
                emit("refusal", api=api, operation=operation, case=case, status=0, body=repr(error))
            else:
                emit(
                    "refusal", api=api, operation=operation, case=case, status=response.status_code, body=response.text
                )
        else:
            emit("refusal", api=api, operation=operation, case=case, status=200, body="")


def main():
    with open(sys.argv[1]) as file:
        run = Run(json.load(file))
    for step in python_life.STEPS:
        try:
            step(run)
        except OperationFailed as error:
            emit("unfinished", step=step.__name__, text=f"{error} failed")
        except Exception as error:
            emit("unfinished", step=step.__name__, text=f"{type(error).__name__}: {error}")
            traceback.print_exc()
    emit("supplied", parameters={name: sorted(given) for name, given in run.supplied.items()})


if __name__ == "__main__":
    main()
