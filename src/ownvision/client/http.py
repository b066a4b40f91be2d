"""The calls of the Training (v3.3), Prediction (v3.1) and the service's own API that the commands need."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

TRAINING = "/customvision/v3.3/training"
PREDICTION = "/customvision/v3.1/prediction"
OWN = "/api"
_BASES = {"training": TRAINING, "prediction": PREDICTION, "own": OWN}

Json = dict[str, Any]


class ClientError(Exception):
    """The service could not be reached or refused; the text is one plain sentence."""


class Service:
    """A running service, with the keys to call it.

    Args:
        endpoint: Address such as ``http://127.0.0.1:8000``.
        training_key: Opens the Training API.
        prediction_key: Opens the Prediction API; None where only quick tests are made.
    """

    def __init__(self, endpoint: str, training_key: str, prediction_key: str | None = None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.has_prediction_key = prediction_key is not None
        training = {"Training-Key": training_key}
        self._headers: dict[str, dict[str, str]] = {"training": training, "own": training, "prediction": {}}
        if prediction_key:
            self._headers["prediction"] = {"Prediction-Key": prediction_key}
        # Training and 64 pictures take their time; that nobody listens shows at once.
        self._http = httpx.Client(timeout=httpx.Timeout(300.0, connect=5.0))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- projects, domains, tags

    def domains(self) -> list[Json]:
        """Every domain, `GetDomains`."""
        return self._list("GET", "/domains")

    def projects(self) -> list[Json]:
        """The account's projects, newest first."""
        return self._list("GET", "/projects")

    def create_project(self, name: str, domain_id: str, classification_type: str | None) -> Json:
        """`CreateProject`."""
        parameters = {"name": name, "domainId": domain_id, "classificationType": classification_type}
        return self._object("POST", "/projects", params={k: v for k, v in parameters.items() if v is not None})

    def set_domain(self, project: Json, domain_id: str) -> Json:
        """`UpdateProject` with another domain and everything else as it is."""
        changed = {**project, "settings": {**project["settings"], "domainId": domain_id}}
        return self._object("PATCH", f"/projects/{project['id']}", json=changed)

    def tags(self, project_id: str) -> list[Json]:
        """The workspace's tags."""
        return self._list("GET", f"/projects/{project_id}/tags")

    def create_tag(self, project_id: str, name: str) -> Json:
        """`CreateTag`."""
        return self._object("POST", f"/projects/{project_id}/tags", params={"name": name})

    # --- images

    def upload(self, project_id: str, pictures: Sequence[tuple[str, bytes]], tag_ids: Sequence[str]) -> list[Json]:
        """`CreateImagesFromData` with at most 64 (file name, bytes); one result per picture, in their order."""
        return list(
            self._object(
                "POST",
                f"/projects/{project_id}/images",
                params={"tagIds": ",".join(tag_ids)} if tag_ids else {},
                files=[("imageData", (name, data, "application/octet-stream")) for name, data in pictures],
            )["images"]
        )

    def add_tag(self, project_id: str, image_ids: Sequence[str], tag_id: str) -> None:
        """`CreateImageTags`: an image that carries the tag already is left as it is."""
        entries = [{"imageId": image_id, "tagId": tag_id} for image_id in image_ids]
        self._object("POST", f"/projects/{project_id}/images/tags", json={"tags": entries})

    # --- iterations

    def train(self, project_id: str, force: bool) -> Json:
        """`TrainProject`: the iteration, which is still `Training`."""
        return self._object("POST", f"/projects/{project_id}/train", params={"forceTrain": str(force).lower()})

    def iterations(self, project_id: str) -> list[Json]:
        """The project's iterations, newest first."""
        return self._list("GET", f"/projects/{project_id}/iterations")

    def iteration(self, project_id: str, iteration_id: str) -> Json:
        """`GetIteration`."""
        return self._object("GET", f"/projects/{project_id}/iterations/{iteration_id}")

    def performance(self, project_id: str, iteration_id: str) -> Json:
        """`GetIterationPerformance` at the thresholds the original's portal starts with."""
        path = f"/projects/{project_id}/iterations/{iteration_id}/performance"
        return self._object("GET", path, params={"threshold": "0.5", "overlapThreshold": "0.3"})

    def publish(self, project_id: str, iteration_id: str, name: str, resource_id: str) -> None:
        """`PublishIteration`, taking the name over from an iteration that has it."""
        path = f"/projects/{project_id}/iterations/{iteration_id}/publish"
        parameters = {"publishName": name, "predictionId": resource_id, "overwrite": "true"}
        self._call("POST", path, params=parameters)

    def exports(self, project_id: str, iteration_id: str) -> list[Json]:
        """`GetExports`."""
        return self._list("GET", f"/projects/{project_id}/iterations/{iteration_id}/export")

    def start_export(self, project_id: str, iteration_id: str, platform: str, flavor: str | None) -> None:
        """`ExportIteration`."""
        parameters = {"platform": platform, **({"flavor": flavor} if flavor else {})}
        self._object("POST", f"/projects/{project_id}/iterations/{iteration_id}/export", params=parameters)

    @contextmanager
    def download(self, uri: str) -> Iterator[httpx.Response]:
        """The bytes behind an address that the service gave out, as a stream."""
        with _plain_errors(self.endpoint), self._http.stream("GET", uri) as answer:
            if answer.is_error:
                raise ClientError(f"The download answered {answer.status_code}.")
            yield answer

    # --- before, during and after a training

    def start_preflight(self, project_id: str) -> Json:
        """Ask for a preflight."""
        return self._object("POST", f"/projects/{project_id}/preflight", api="own")

    def preflight(self, project_id: str) -> Json:
        """The preflight as far as it is."""
        return self._object("GET", f"/projects/{project_id}/preflight", api="own")

    def training_progress(self, project_id: str, iteration_id: str) -> Json:
        """How far a training is."""
        return self._object("GET", f"/projects/{project_id}/iterations/{iteration_id}/progress", api="own")

    def cancel_training(self, project_id: str, iteration_id: str) -> Json:
        """Stop a training."""
        return self._object("POST", f"/projects/{project_id}/iterations/{iteration_id}/cancel", api="own")

    def performance_detail(self, project_id: str, iteration_id: str, threshold: float, overlap: float) -> Json:
        """Figures per tag with their spread, and the confusion matrix."""
        path = f"/projects/{project_id}/iterations/{iteration_id}/performance"
        return self._object("GET", path, api="own", params={"threshold": threshold, "overlapThreshold": overlap})

    def most_wrong(self, project_id: str, iteration_id: str, overlap: float, take: int) -> list[Json]:
        """The images that an iteration is most wrong about."""
        path = f"/projects/{project_id}/iterations/{iteration_id}/performance/wrong"
        return self._list("GET", path, api="own", params={"overlapThreshold": overlap, "take": take})

    def compare(self, project_id: str, iteration_id: str, other_id: str, threshold: float, overlap: float) -> Json:
        """Two iterations on the same images."""
        parameters = {"with": other_id, "threshold": threshold, "overlapThreshold": overlap}
        return self._object(
            "GET", f"/projects/{project_id}/iterations/{iteration_id}/compare", api="own", params=parameters
        )

    # --- predictions

    def predict(self, project_id: str, kind: str, published: str, picture: bytes) -> Json:
        """Prediction of a published iteration, not stored; `kind` is ``classify`` or ``detect``."""
        path = f"/{project_id}/{kind}/iterations/{quote(published, safe='')}/image/nostore"
        return self._object("POST", path, api="prediction", files={"imageData": picture})

    def quick_test(self, project_id: str, iteration_id: str, picture: bytes) -> Json:
        """Prediction of an iteration that is not published, not stored."""
        path = f"/projects/{project_id}/quicktest/image"
        parameters = {"iterationId": iteration_id, "store": "false"}
        return self._object("POST", path, params=parameters, files={"imageData": picture})

    # --- the wire

    def _call(self, method: str, path: str, *, api: str = "training", **request: Any) -> Any:
        with _plain_errors(self.endpoint):
            answer = self._http.request(
                method, self.endpoint + _BASES[api] + path, headers=self._headers[api], **request
            )
        if answer.is_error:
            raise ClientError(_refusal(answer))
        return answer.json() if answer.content else None

    def _object(self, method: str, path: str, *, api: str = "training", **request: Any) -> Json:
        answer = self._call(method, path, api=api, **request)
        if not isinstance(answer, dict):
            raise ClientError(f"{self.endpoint} does not answer as a Custom Vision service does.")
        return answer

    def _list(self, method: str, path: str, *, api: str = "training", **request: Any) -> list[Json]:
        answer = self._call(method, path, api=api, **request)
        if not isinstance(answer, list):
            raise ClientError(f"{self.endpoint} does not answer as a Custom Vision service does.")
        return answer


@contextmanager
def _plain_errors(endpoint: str) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise ClientError(f"Nothing answers at {endpoint}; start it with `ownvision serve`.") from error
    except httpx.TimeoutException as error:
        raise ClientError(f"{endpoint} did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClientError(f"The connection to {endpoint} failed: {error}.") from error


def _refusal(answer: httpx.Response) -> str:
    """The service's own sentence, however its error is shaped."""
    if answer.status_code == 401:
        return f"{answer.request.url.host} does not know this key."
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("message"), str) and body["message"]:
        return str(body["message"])
    return f"{answer.request.url.host} answered {answer.status_code} {answer.reason_phrase}."
