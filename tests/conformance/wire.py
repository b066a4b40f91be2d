"""Judges what a driver printed: raw keys, their order, nulls, types, ids and dates of every answer, and refusals.

A driver prints the client's own schema (attribute, wire name, type, values of each model) and every exchange. An answer
must have exactly the keys that the client's version declares, in that order; the tables below hold what is otherwise,
each with where it is known from. Names in them are written as v2.0 and later write them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Raw = Mapping[str, Any]
When = Callable[[Raw, str], bool]


def always(owner: Raw, operation: str) -> bool:
    return True


def created(owner: Raw, operation: str) -> bool:
    return operation.startswith(("Create", "Post"))


def training(owner: Raw, operation: str) -> bool:
    """While an iteration is trained, and in the workspace that v1 and v2 list as an iteration."""
    return lowered(owner).get("status") in ("Training", "New", "Failed")


def not_ok(owner: Raw, operation: str) -> bool:
    return lowered(owner).get("status") != "OK"


def exporting(owner: Raw, operation: str) -> bool:
    return lowered(owner).get("status") == "Exporting"


NULLS: Mapping[str, When] = {
    # Null in recordings of the original (models.md, wire_samples.md).
    "Project.thumbnailUri": always,
    "ProjectSettings.detectionParameters": always,
    "Domain.modelInformation": lambda owner, _: not owner["exportable"],
    "Tag.description": always,
    "ImageTag.tagName": created,
    "ImageRegion.tagName": created,
    "ImageRegionCreateResult.tagName": created,
    "ImageCreateResult.image": not_ok,
    "Iteration.exportableTo": always,
    "Iteration.domainId": training,
    "Iteration.classificationType": training,
    "Iteration.publishName": always,
    "Iteration.originalPublishResourceId": always,
    "Iteration.customBaseModelInfo": always,
    "Iteration.trainingErrorDetails": always,
    "Export.downloadUri": exporting,
    "Export.flavor": always,
    "PredictionQueryToken.continuation": always,
    "PredictionQueryToken.tags": always,
    "PredictionQueryToken.iterationId": always,
    "PredictionQueryToken.startTime": always,
    "PredictionQueryToken.endTime": always,
    "PredictionQueryToken.application": always,
    "SuggestedTagAndRegionQueryToken.continuation": always,
    # Nullable by its description: "Null if this quota does not reset."
    "Quota.timeUntilReset": always,
    # Nullable in v1.2's contract; no recording says more.
    "Image.predictions": always,
}

OMITTED: Mapping[str, When] = {
    # Left out when empty in recordings.
    "Image.tags": always,
    "Image.regions": always,
    "Image.metadata": always,
    "Image.predictions": always,
    "ImagePerformance.tags": always,
    "ImagePerformance.regions": always,
    "Prediction.boundingBox": always,
    "Iteration.trainedAt": training,
    "ImageMetadataUpdateEntry.metadata": not_ok,
    "ProjectSettings.exportModelContainerUri": always,
    "ProjectSettings.notificationQueueUri": always,
    # The example of v1.2 leaves it out.
    "Quota.timeUntilReset": always,
}

EXTRA: Mapping[str, frozenset[str]] = {
    # The recording CreateProject(v1.2) of azure-sdk-for-net and those of v2.2 and v3.0 have settings that the contracts
    # lack; of v2.0 and v2.1, which lie between, there is no recording.
    "ProjectSettings.classification": frozenset({"v1.2"}),
    "ProjectSettings.classificationType": frozenset({"v2.0"}),
    "ProjectSettings.useNegativeSet": frozenset({"v1.2", "v2.0", "v2.1", "v2.2", "v3.0"}),
    "ProjectSettings.detectionParameters": frozenset({"v2.0", "v2.1", "v2.2", "v3.0"}),
}

_V2_SETTINGS = ("domainId", "classificationType", "useNegativeSet", "detectionParameters")
ORDER: Mapping[tuple[str, str], Sequence[str]] = {
    ("v1.2", "ProjectSettings"): ("DomainId", "Classification", "UseNegativeSet"),
    ("v2.0", "ProjectSettings"): _V2_SETTINGS,
    ("v2.1", "ProjectSettings"): _V2_SETTINGS,
    ("v2.2", "ProjectSettings"): _V2_SETTINGS,
    ("v3.0", "ProjectSettings"): (
        "domainId",
        "classificationType",
        "useNegativeSet",
        "detectionParameters",
        "targetExportPlatforms",
    ),
}
"""Where a recording has another order than the contract."""

VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    # Its documentation names CoreML and TensorFlow only; the exporter there is writes ONNX.
    ("v1.2", "Export.platform"): frozenset({"ONNX"}),
}
"""Values beyond those that a version's documentation names."""

ALIASES = {"ExportModel": "Export"}
"""Models that a client calls otherwise."""

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GUID_NAMES = re.compile(r"(id|project|iteration|domain|\w+Ids?)")
NO_GUIDS = {"originalPublishResourceId"}

_DAY = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
NO_ZONE, TICKS_Z, MILLIS_Z, ANY_Z, ANY = (
    re.compile(_DAY + tail)
    for tail in (r"(\.\d{1,7})?", r"(\.\d{1,7})?Z", r"(\.\d{1,3})?Z", r"(\.\d{1,7})?Z", r"(\.\d{1,7})?Z?")
)
OF_IMAGES = {"Image", "ImageTag", "ImageRegion", "ImageRegionCreateResult", "ImagePerformance"}


def date_form(api: str, version: str, model: str, name: str) -> re.Pattern[str]:
    """How a version writes a date; where no recording tells, any form will do."""
    if model in OF_IMAGES or model == "StoredSuggestedTagAndRegion":
        return NO_ZONE
    if api == "prediction":
        return MILLIS_Z if version == "v3.1" else TICKS_Z
    if model == "Project" and version < "v2":
        return NO_ZONE if name == "created" else TICKS_Z
    if model == "Project":
        return NO_ZONE if version == "v2.2" else MILLIS_Z if version >= "v3.1" else ANY
    if model == "Iteration":
        return NO_ZONE if version < "v2" else MILLIS_Z if version >= "v3" else ANY
    if model == "StoredImagePrediction":
        return ANY_Z
    return ANY


def lowered(owner: Raw) -> dict[str, Any]:
    """An object with the names of v2.0 and later."""
    return {name[:1].lower() + name[1:]: value for name, value in owner.items()}


@dataclass
class Report:
    """What came of one client's run.

    Attributes:
        versions: Version by API.
        problems: What was wrong, by API and operation (operationId); an empty list is a proof.
        unfinished: Steps that ended early.
    """

    versions: dict[str, str]
    problems: dict[str, dict[str, list[str]]]
    unfinished: list[str] = field(default_factory=list)

    def found(self) -> list[str]:
        """Every problem as a line."""
        return [
            f"{api} {self.versions[api]} {operation}: {text}"
            for api, operations in self.problems.items()
            for operation, texts in operations.items()
            for text in texts
        ] + self.unfinished


def operation_id(name: str) -> str:
    """get_domains and getDomains are GetDomains."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def judge(lines: Sequence[Mapping[str, Any]], unused: Mapping[str, str]) -> Report:
    """Judge a run.

    Args:
        lines: What the driver printed.
        unused: `operation.parameter` that need not be sent, with the reason.
    """
    client = next(line for line in lines if line["kind"] == "client")
    report = Report(
        client["versions"],
        {api: {operation_id(name): [] for name in names} for api, names in client["operations"].items()},
    )
    texts = {operation_id(name): api for api, names in client["operations"].items() for name in names}

    def add(name: str, text: str) -> None:
        operation = operation_id(name)
        found = report.problems[texts[operation]][operation]
        if text not in found:
            found.append(text)

    called = set()
    for line in lines:
        match line["kind"]:
            case "problem":
                add(line["operation"], line["text"])
                called.add(line["operation"])
            case "exchange":
                called.add(line["operation"])
                for text in of_exchange(line, client):
                    add(line["operation"], text)
            case "refusal":
                for text in of_refusal(line, client["versions"][line["api"]]):
                    add(line["operation"], f"{line['case']}: {text}")
            case "unfinished":
                report.unfinished.append(f"step {line['step']}: {line['text']}")
            case "supplied":
                for name, parameter in of_parameters(line["parameters"], client, unused):
                    if name in called:
                        add(name, f"parameter {parameter} was never sent")
    for names in client["operations"].values():
        for name in names:
            if name not in called:
                add(name, "was not called")
    return report


def of_parameters(
    sent: Mapping[str, Sequence[str]], client: Mapping[str, Any], unused: Mapping[str, str]
) -> list[tuple[str, str]]:
    """(operation, parameter) of what the client has and the suite never sent."""
    return [
        (name, parameter)
        for operations in client["operations"].values()
        for name, parameters in operations.items()
        for parameter in parameters
        if parameter not in sent[name] and f"{name}.{parameter}" not in unused
    ]


def of_exchange(line: Mapping[str, Any], client: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an answer as it stood on the wire."""
    headers = {name.lower(): value for name, value in line["headers"].items()}
    if not GUID.fullmatch(headers.get("apim-request-id", "")):
        yield f"apim-request-id is {headers.get('apim-request-id')!r}"
    if line["declared"] is None:
        if line["status"] not in (202, 204) or line["body"]:
            yield f"answered {line['status']} with {line['body'][:200]!r}, not 204 and nothing"
        return
    stream = line["declared"] == "stream"
    if headers.get("content-type") != ("application/octet-stream" if stream else "application/json; charset=utf-8"):
        yield f"Content-Type is {headers.get('content-type')!r}"
    if stream:
        return
    operation = operation_id(line["operation"])
    raw = json.loads(line["body"])
    batch = isinstance(raw, dict) and lowered(raw).get("isBatchSuccessful") is False
    wanted = 207 if batch and client["versions"][line["api"]] >= "v3.3" else 200
    if line["status"] != wanted:
        yield f"answered {line['status']}, not {wanted}"
    context = Context(line["api"], client["versions"][line["api"]], operation, client["schema"][line["api"]])
    yield from context.value(raw, line["declared"], [], "")


@dataclass(frozen=True)
class Context:
    """The version that an answer is judged by."""

    api: str
    version: str
    operation: str
    schema: Mapping[str, Sequence[tuple[str, str, str, Sequence[str]]]]

    def value(self, raw: Any, declared: str, values: Sequence[str], path: str) -> Iterator[str]:
        """A value that may not be null."""
        owner, _, name = path.rpartition(".")
        model = owner.rpartition("/")[2]
        if declared.startswith("["):
            if not isinstance(raw, list):
                yield f"{path}: {raw!r} is no list"
                return
            for each in raw:
                yield from self.value(each, declared[1:-1], values, path)
        elif declared.startswith("{"):
            if not isinstance(raw, dict):
                yield f"{path}: {raw!r} is no map"
                return
            for each in raw.values():
                yield from self.value(each, declared[1:-1], values, path)
        elif declared in self.schema:
            if not isinstance(raw, dict):
                yield f"{path}: {raw!r} is no {declared}"
                return
            yield from self.model(raw, declared, f"{path}/{declared}" if path else declared)
        elif not self.is_a(raw, declared):
            yield f"{path}: {raw!r} is no {declared}"
        elif values and raw not in values and raw not in VALUES.get((self.version, f"{model}.{name}"), ()):
            yield f"{path}: {raw!r} is none of {', '.join(values)}"
        elif declared == "iso-8601" and not date_form(self.api, self.version, model, name).fullmatch(raw):
            yield f"{path}: {raw!r} is not how {self.version} writes dates"
        elif declared == "str" and GUID_NAMES.fullmatch(name) and name not in NO_GUIDS and not GUID.fullmatch(raw):
            yield f"{path}: {raw!r} is no id"

    @staticmethod
    def is_a(raw: Any, declared: str) -> bool:
        kinds = {
            "str": (str,),
            "iso-8601": (str,),
            "duration": (str,),
            "bool": (bool,),
            "int": (int,),
            "float": (float,),
            "number": (int, float),
        }
        return type(raw) in kinds.get(declared, (str,))

    def model(self, raw: Raw, name: str, path: str) -> Iterator[str]:
        """An object: its keys, their order, and every value."""
        declared = {key: (kind, values) for _, key, kind, values in self.schema[name]}
        name = ALIASES.get(name, name)
        for key, (kind, values) in declared.items():
            plain = key[:1].lower() + key[1:]
            rule = f"{name}.{plain}"
            where = f"{path}.{plain}"
            if key not in raw:
                if not OMITTED.get(rule, never)(raw, self.operation):
                    yield f"{where}: is left out"
            elif raw[key] is None:
                if not NULLS.get(rule, never)(raw, self.operation):
                    yield f"{where}: is null"
            else:
                yield from self.value(raw[key], kind, values, where)
        for key in raw:
            rule = f"{name}.{key[:1].lower() + key[1:]}"
            if key not in declared and self.version not in EXTRA.get(rule, ()):
                yield f"{path}: has {key}, which {self.version} does not know"
        wanted = ORDER.get((self.version, name)) or list(declared)
        got = [key for key in raw if key in wanted]
        if got != [key for key in wanted if key in raw]:
            yield f"{path}: keys are in the order {', '.join(got)}"


def never(owner: Raw, operation: str) -> bool:
    return False


REFUSALS: Mapping[str, tuple[int, str | None, str | None]] = {
    "wrong key": (401, None, None),
    "unknown project": (404, "NotFoundProject", None),
    "unknown iteration": (404, "NotFoundIteration", None),
    "training unchanged": (400, "BadRequestTrainingNotNeeded", "Nothing changed since last training"),
}
"""Status, code and message by case; the gateway's 401 has no code of the service."""


def of_refusal(line: Mapping[str, Any], version: str) -> Iterator[str]:
    """What is wrong with how a call was refused."""
    status, code, message = REFUSALS[line["case"]]
    if line["status"] != status:
        yield f"answered {line['status']} {line['body'][:300]!r}, not {status}"
        return
    try:
        body = json.loads(line["body"])
    except ValueError:
        yield f"says {line['body'][:300]!r}, which is no JSON"
        return
    if code is None:
        text = body.get("message") or body.get("error", {}).get("message", "")
        if "invalid subscription key" not in text:
            yield f"says {text!r}"
        return
    names = ["Code", "Message"] if version < "v2" else ["code", "message"]
    if list(body) != names:
        yield f"has {list(body)}, not {names}"
    elif body[names[0]] != code or (message is not None and body[names[1]] != message):
        yield f"says {body}"
