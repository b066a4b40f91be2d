"""A resource that answers badly: what a network does is waited for, what nobody honest does is refused plainly."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from ownvision.data_rights.azure_import import client, copying
from ownvision.data_rights.azure_import.client import Patience, Resource, Unanswered, Unusable
from ownvision.data_rights.azure_import.work import Work
from tests.front import Answer, Asked, Front, front

pytestmark = pytest.mark.slow

API = "/customvision/v3.3/training"
PROJECT = "11111111-1111-4111-8111-111111111111"
TAG = "22222222-2222-4222-8222-222222222222"
DOMAIN = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
KEY = "a-training-key-of-the-test"
QUICK = Patience(attempts=3, pause=0.01, step=0.5, slowest=10_000_000, limited=1.0)
Change = Callable[[Asked, Answer], Answer]


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def image_id(number: int) -> str:
    return f"33333333-3333-4333-8333-{number:012}"


class Fake:
    """A resource with one project of so many images, the smallest there can be."""

    def __init__(self, images: int = 3) -> None:
        self.images = images
        self.endpoint = ""
        self.change: Change = lambda asked, answer: answer

    def rule(self, asked: Asked, _: Callable[[], Answer]) -> Answer:
        return self.change(asked, self.answer(asked))

    def answer(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        if asked.picture:
            return Answer(body=picture(int(parts.path[-6:])))
        found = self.json(parts.path.removeprefix(API), parse_qs(parts.query))
        if found is None:
            return Answer(404, body=b'{"code":"NotFound","message":"There is nothing."}')
        return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(found).encode())

    def json(self, path: str, asked: dict[str, list[str]]) -> Any:
        if path.endswith("/images"):
            skip, take = (int(asked.get(name, [default])[0]) for name, default in (("skip", "0"), ("take", "50")))
            return [self.image(number) for number in range(self.images)][skip : skip + take]
        if path.endswith("/images/id"):
            return [self.image(number) for number in range(self.images) if image_id(number) in asked["imageIds"][0]]
        one = {
            "id": PROJECT,
            "name": "Fake",
            "description": None,
            "settings": {"domainId": DOMAIN, "classificationType": "Multilabel"},
            "created": "2024-01-02T03:04:05.1234567",
            "lastModified": "2024-01-02T03:04:05.1234567Z",
        }
        tag = {"id": TAG, "name": "thing", "description": None, "type": "Regular", "imageCount": self.images}
        return {
            "/projects": [one],
            "/domains": [{"id": DOMAIN, "name": "General", "type": "Classification"}],
            f"/projects/{PROJECT}": one,
            f"/projects/{PROJECT}/tags": [tag],
            f"/projects/{PROJECT}/iterations": [],
            f"/projects/{PROJECT}/images/tagged/count": self.images,
            f"/projects/{PROJECT}/images/untagged/count": 0,
            f"/projects/{PROJECT}/predictions/query": {"token": {"continuation": None}, "results": []},
        }.get(path)

    def image(self, number: int) -> dict[str, Any]:
        uri = f"{self.endpoint}/i-x/i-{number:06}"
        return {
            "id": image_id(number),
            "created": f"2024-01-02T03:04:{number % 60:02}.000",
            "width": 32,
            "height": 24,
            "resizedImageUri": uri,
            "thumbnailUri": uri,
            "originalImageUri": uri,
            "tags": [{"tagId": TAG, "tagName": "thing", "created": "2024-01-02T03:05:00.000"}],
        }


class Silent:
    def begin(self, what: str, total: int | None) -> None:
        """Nobody is told."""

    def advance(self, steps: int = 1) -> None:
        """Nobody is told."""


@contextmanager
def faked(fake: Fake, change: Change | None = None) -> Iterator[Front]:
    if change is not None:
        fake.change = change
    with front(None, fake.rule) as server:
        fake.endpoint = server.endpoint
        yield server


def copied(endpoint: str, folder: Path, patience: Patience = QUICK) -> tuple[Path, copying.Outcome]:
    """A copy into an archive beside its work folder."""
    resource = Resource(endpoint, KEY, 1_000, patience)
    work = Work(folder, copying.of(resource.endpoint, []))
    try:
        differences = copying.gather(resource, work, [], Silent())
        archive, outcome = copying.write(work, resource.endpoint, Silent())
        outcome.differences[:0] = differences
        return archive, outcome
    finally:
        resource.close()
        work.close()


def hashes(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith("projects/Fake/images/")]
        return sorted(hashlib.sha256(opened.read(name)).hexdigest() for name in names)


def expected(images: int) -> list[str]:
    return sorted(hashlib.sha256(picture(number)).hexdigest() for number in range(images))


# --- what a network does


def once(of: Callable[[Asked], bool], bad: Callable[[Answer], Answer]) -> Change:
    """The first call of each such path is answered badly."""
    return lambda asked, answer: bad(answer) if of(asked) and asked.number == 1 else answer


def cut(answer: Answer) -> Answer:
    half = answer.body[: len(answer.body) // 2]
    return Answer(answer.status, answer.headers, half, promise=len(answer.body) - len(half))


TROUBLES: dict[str, Change] = {
    "429": once(lambda _: True, lambda _: Answer(429, {"Retry-After": "0.2"})),
    "429 of a date": once(
        lambda asked: asked.picture, lambda _: Answer(429, {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"})
    ),
    "500": once(lambda _: True, lambda _: Answer(500)),
    "503 without sense": once(lambda _: True, lambda _: Answer(503, {"Retry-After": "soon"}, b"<html>busy</html>")),
    "cut off": once(lambda _: True, cut),
    "expired addresses": once(lambda asked: asked.picture, lambda _: Answer(403)),
    "altered picture": once(lambda asked: asked.picture, lambda a: Answer(200, {}, a.body[:-20] + bytes(20))),
    "hash of other bytes": once(
        lambda asked: asked.picture, lambda a: Answer(200, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, a.body)
    ),
    "older than v3.3": lambda asked, answer: Answer(404) if urlsplit(asked.path).path.endswith("/images") else answer,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_on_the_way_changes_nothing_of_the_copy(tmp_path: Path, trouble: str) -> None:
    fake = Fake()

    def change(asked: Asked, answer: Answer) -> Answer:
        path = urlsplit(asked.path)
        if path.path.endswith("/images/tagged"):
            return fake.answer(Asked("GET", asked.path.replace("/images/tagged", "/images"), 1, {}))
        if path.path.endswith("/images/untagged"):
            return Answer(body=b"[]")
        return TROUBLES[trouble](asked, answer)

    with faked(fake, change) as server:
        archive, outcome = copied(server.endpoint, tmp_path / "work")
    assert (outcome.differences, hashes(archive)) == ([], expected(3))
    assert outcome.counts["images"] == outcome.counts["tags"] * 3 == 3


def test_a_picture_that_can_not_be_had_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    bad = {
        "000001": Answer(200, {}, b"no picture"),
        "000002": Answer(404),
        "000003": Answer(302, {"Location": "http://169.254.169.254/"}),
    }
    with faked(Fake(5), lambda asked, answer: bad.get(asked.path[-6:], answer) if asked.picture else answer) as server:
        archive, outcome = copied(server.endpoint, tmp_path / "work")
        assert not [asked for asked in server.came if "169.254" in asked.path]
    assert [difference.partition(". ")[0] for difference in outcome.differences] == [
        f"Fake: picture {image_id(number)} could not be had" for number in (1, 2, 3)
    ]
    assert hashes(archive) == sorted(hashlib.sha256(picture(number)).hexdigest() for number in (0, 4))
    assert outcome.counts["missing"] == 3


def test_a_service_that_stays_down_ends_the_copy_which_goes_on_later(tmp_path: Path) -> None:
    down = True

    def change(asked: Asked, answer: Answer) -> Answer:
        return Answer(503) if down and asked.picture and asked.path.endswith("000002") else answer

    with faked(Fake(), change) as server:
        with pytest.raises(Unanswered, match="answered 503"):
            copied(server.endpoint, tmp_path / "work")
        before, down = len(server.came), False
        archive, outcome = copied(server.endpoint, tmp_path / "work")
        again = [asked.path for asked in server.came[before:] if asked.picture]
    assert (outcome.differences, hashes(archive), again) == ([], expected(3), ["/i-x/i-000002"])


def test_slow_bytes_are_given_up(tmp_path: Path) -> None:
    fake = Fake(1)
    with faked(fake, lambda asked, answer: Answer(200, {}, b"", promise=10) if asked.picture else answer) as server:
        resource = Resource(server.endpoint, KEY, 1_000, QUICK)
        with pytest.raises(Unusable, match="breaks off"):
            resource.read(f"{server.endpoint}/i-x/i-000000", PROJECT, 100)
        resource.close()


# --- what nobody honest does


def answers(path: str, body: Any, status: int = 200, **headers: str) -> Change:
    """One operation answers this."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def change(asked: Asked, answer: Answer) -> Answer:
        return Answer(status, headers, data) if urlsplit(asked.path).path == API + path else answer

    return change


def endless(asked: Asked, answer: Answer) -> Answer:
    """Each page holds 256 images that no other has."""
    parts = urlsplit(asked.path)
    if not parts.path.endswith("/images"):
        return answer
    skip = int(parse_qs(parts.query).get("skip", ["0"])[0])
    return Answer(body=json.dumps([Fake(0).image(skip + number) for number in range(256)]).encode())


def repeating(asked: Asked, answer: Answer) -> Answer:
    if urlsplit(asked.path).path.endswith("/images"):
        return Answer(body=json.dumps([Fake(0).image(number) for number in range(256)]).encode())
    return Answer(body=b"100000") if asked.path.endswith("/tagged/count") else answer


def again_and_again(asked: Asked, answer: Answer) -> Answer:
    if not asked.path.endswith("/predictions/query"):
        return answer
    return Answer(body=json.dumps({"token": {"session": "2:1", "continuation": "on"}, "results": []}).encode())


FOREIGN = "does not answer as a Custom Vision resource does"
OTHER = {**Fake().json("/projects", {})[0], "id": TAG}
PATHS = [{**Fake().image(0), "id": "../../../x"}]
SAID = {"error": {"code": "403", "message": "Public access is\u0007 disabled."}}
HOSTILE: dict[str, tuple[Change, str]] = {
    "HTML": (answers("/projects", b"<html>Sign in</html>"), FOREIGN),
    "no list": (answers("/projects", {"value": []}), "Project: no list of at most"),
    "another shape": (answers("/projects", [{"id": "../../etc"}]), "What is wrong: Project: id"),
    "deep": (answers("/projects", b"[" * 100_000), FOREIGN),
    "another project": (answers(f"/projects/{PROJECT}", OTHER), "another one than was asked"),
    "an id that is a path": (answers(f"/projects/{PROJECT}/images", PATHS), "Image: id"),
    "numbers that are none": (answers(f"/projects/{PROJECT}/images/tagged/count", b"NaN"), "count"),
    "redirect": (answers("/projects", b"", 302, Location="http://169.254.169.254/latest"), "sends us elsewhere (302)"),
    "endless": (endless, "a listing without an end"),
    "the same page": (repeating, "a listing without an end"),
    "endless predictions": (again_and_again, "stored predictions without an end"),
    "a wrong key": (answers("/projects", {"error": {"message": "No."}}, 401), "does not know this training key"),
    "no entrance": (answers("/projects", SAID, 403), '"Public access is disabled."'),
    "no project": (answers("/projects", []), "The resource holds no project"),
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_a_hostile_resource_is_refused_plainly(tmp_path: Path, lie: str) -> None:
    change, words = HOSTILE[lie]
    with faked(Fake(), change) as server:
        with pytest.raises(Unanswered) as refused:
            copied(server.endpoint, tmp_path / "work")
        assert len(server.came) < 60
    assert words in str(refused.value)
    assert KEY not in str(refused.value)
    assert not list(tmp_path.rglob("archive.zip"))


def test_an_answer_of_any_size_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "JSON_BYTES", 1_000)
    with (
        faked(Fake(), answers("/projects", b'["' + b"x" * 100_000 + b'"]')) as server,
        pytest.raises(Unanswered, match="larger than"),
    ):
        copied(server.endpoint, tmp_path / "work")


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest",
        "http://10.0.0.1/x",
        "http://0.0.0.0:1/x",
        "file:///etc/passwd",
        "http:///nowhere",
    ],
)
def test_pictures_are_not_fetched_from_inside_a_network(tmp_path: Path, address: str) -> None:
    fake = Fake(1)
    shape = {**fake.image(0), "originalImageUri": address}

    def change(asked: Asked, answer: Answer) -> Answer:
        if "/images" in asked.path and not asked.path.endswith("count"):
            return Answer(body=json.dumps([shape]).encode())
        return answer

    with faked(fake, change) as server:
        _, outcome = copied(server.endpoint, tmp_path / "work")
    assert len(outcome.differences) == 1
    assert f"picture {image_id(0)} could not be had" in outcome.differences[0]


def test_the_key_goes_to_the_endpoint_and_nowhere_else(tmp_path: Path) -> None:
    with front(None, lambda asked, _: Answer(body=picture(0))) as storage:
        fake = Fake(1)
        shape = {**fake.image(0), "originalImageUri": f"{storage.endpoint}/i-x/i-000000?sig=s"}
        with faked(fake, answers(f"/projects/{PROJECT}/images", [shape])) as server:
            _, outcome = copied(server.endpoint, tmp_path / "work")
        assert outcome.differences == []
        assert {asked.headers.get("training-key") for asked in server.came} == {KEY}
        assert [KEY in str(asked.headers) for asked in storage.came] == [False]


def test_a_path_instead_of_an_address_is_asked_of_the_resource(tmp_path: Path) -> None:
    fake = Fake(1)
    shape = {**fake.image(0), "originalImageUri": "i-project/i-000000"}
    listing = answers(f"/projects/{PROJECT}/images", [shape])

    def change(asked: Asked, answer: Answer) -> Answer:
        if "/artifacts?" in asked.path:
            return (
                Answer(body=picture(0))
                if parse_qs(urlsplit(asked.path).query)["path"] == ["i-project/i-000000"]
                else answer
            )
        return listing(asked, answer)

    with faked(fake, change) as server:
        archive, outcome = copied(server.endpoint, tmp_path / "work")
    assert (outcome.differences, hashes(archive)) == ([], expected(1))


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://example.com.invalid", "There is no host"),
        ("ftp://127.0.0.1", "must be an address such as"),
        ("https://", "must be an address such as"),
        ("https://user:word@127.0.0.1", "must be an address such as"),
        ("http://8.8.8.8", "must be an https address"),
        ("http://169.254.169.254", "must be an https address"),
    ],
)
def test_a_key_is_sent_to_no_strange_address(endpoint: str, words: str) -> None:
    with pytest.raises(Unanswered, match=words):
        Resource(endpoint, KEY)


def test_the_address_of_the_api_is_as_good_as_the_endpoint() -> None:
    resource = Resource(f"http://127.0.0.1:1/{API}/", KEY, patience=QUICK)
    assert resource.endpoint == "http://127.0.0.1:1"
    with pytest.raises(Unanswered, match="can't be reached"):
        resource.ask("/projects")
    resource.close()


def test_calls_keep_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pace, moments = [100.0], client.Pace(50.0), []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    for _ in range(5):
        pace.wait()
        moments.append(now[0])
    pace.hold(2.0)
    pace.wait()
    assert [*moments, now[0]] == pytest.approx([100.0, 100.02, 100.04, 100.06, 100.08, 102.08])


def test_a_work_folder_is_of_one_copy_and_one_process(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", copying.of("https://a", []))
    with pytest.raises(Unanswered, match="Another process"):
        Work(tmp_path / "work", copying.of("https://a", []))
    work.close()
    with pytest.raises(Unanswered, match="is of another copy"):
        Work(tmp_path / "work", copying.of("https://b", []))
    Work(tmp_path / "work", copying.of("https://a", [])).remove()
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_can_read_what_is_fetched(tmp_path: Path) -> None:
    with faked(Fake()) as server:
        copied(server.endpoint, tmp_path / "work")
    there = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in [tmp_path / "work", *there]} == {0}
    assert KEY.encode() not in b"".join(path.read_bytes() for path in there)


def test_a_damaged_picture_is_fetched_anew(tmp_path: Path) -> None:
    with faked(Fake()) as server:
        copied(server.endpoint, tmp_path / "work")
        spoilt = next((tmp_path / "work/pictures").rglob("3*"))
        next(path for path in (tmp_path / "work/pictures").rglob("3*") if path.is_file()).write_bytes(b"spoilt")
        assert spoilt.exists()
        with pytest.raises(Unanswered, match="damaged"):
            copied(server.endpoint, tmp_path / "work")
        archive, outcome = copied(server.endpoint, tmp_path / "work")
    assert (outcome.differences, hashes(archive)) == ([], expected(3))


def test_what_changes_while_it_is_copied_is_told(tmp_path: Path) -> None:
    fake = Fake()
    changes = iter(range(100))

    def change(asked: Asked, answer: Answer) -> Answer:
        # One more is counted each time than is listed.
        return Answer(body=str(next(changes) + 3).encode()) if asked.path.endswith("/images/tagged/count") else answer

    with faked(fake, change) as server:
        archive, outcome = copied(server.endpoint, tmp_path / "work")
    assert outcome.differences == ["Fake: the workspace: 6 tagged images are counted, 3 were listed"]
    assert hashes(archive) == expected(3)


def test_what_changed_and_came_to_rest_is_no_difference(tmp_path: Path) -> None:
    fake = Fake()

    def change(asked: Asked, answer: Answer) -> Answer:
        if asked.picture and fake.images == 3:
            fake.images = 4  # behind our back, while pictures are fetched
        return answer

    with faked(fake, change) as server:
        archive, outcome = copied(server.endpoint, tmp_path / "work")
        pictures = [asked.path for asked in server.came if asked.picture]
    assert (outcome.differences, hashes(archive)) == ([], expected(4))
    assert len(pictures) == len(set(pictures)) == 4
