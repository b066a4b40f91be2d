"""A project travels: what leaves, what arrives, and what is refused of what a stranger sends."""

import base64
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import onnx
import pytest
from sqlalchemy import delete, select

from ownvision.data_rights import retention
from ownvision.data_rights.doctor import doctor
from ownvision.errors import OwnVisionError
from ownvision.inference import Classification, load
from ownvision.jobs import rows
from ownvision.learning.graph import Graph, metadata
from ownvision.services import images, intake, iterations, performance, projects, regions, tags, uris
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.services.intake import Picture
from ownvision.services.regions import Box
from ownvision.services.travel import arriving, leaving, tar, tokens
from ownvision.store import ledger
from ownvision.store.tables import (
    Image,
    ImageTag,
    Iteration,
    IterationTag,
    Job,
    Lineage,
    Project,
    ProjectExport,
    Region,
    ScoredImage,
    Tag,
)
from ownvision.store.tables.base import new_id, now
from tests.services import trained as t

pytestmark = pytest.mark.slow

BASE = "http://127.0.0.1:1"
Members = list[tuple[str, bytes]]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


def export_of(house: Components, project: Project) -> ProjectExport:
    with house.database.write() as session:
        locked = projects.get(session, project.account_id, project.id, lock=True)
        return tokens.make(session, locked, house.settings.project_token_days)


def token_of(house: Components, project: Project) -> str:
    export = export_of(house, project)
    return uris.sign_project(house, BASE, project.id, export.id, export.expires)


def now_of(house: Components, project: Project) -> Project:
    with house.database.read() as session:
        return projects.get(session, project.account_id, project.id)


def job_of(house: Components, project: Project) -> Job:
    with house.database.read() as session:
        return session.scalars(select(Job).where(Job.kind == "import", Job.subject == project.id)).one()


def bring(house: Components, token: str, name: str | None = None) -> Project:
    """Import to the end, whatever it is."""
    with house.database.read() as session:
        account_id = session.scalars(select(Project.account_id)).first() or ""
    copy = arriving.start(house, account_id, BASE, token, name)
    assert copy.status == "Importing"
    t.work(house)
    return now_of(house, copy)


def look(house: Components, project: Project, iteration_id: str | None = None) -> list[dict[str, Any]]:
    """Images as the API would show them, by what does not change from one installation to the next."""
    with house.database.read() as session:
        found = images.find(session, project, iteration_id=iteration_id, newest=False, take=1_000)
        return [
            {
                "sha256": view.image.sha256,
                "size": (view.image.width, view.image.height, view.image.size, view.image.format),
                "name": view.image.file_name,
                "created": view.image.created,
                "tags": sorted((name, created) for _, name, created in view.tags),
                "regions": sorted(
                    (one.tag_name, one.left, one.top, one.width, one.height, one.created) for one in view.regions
                ),
                "metadata": view.metadata,
                "bytes": house.blobs.read(ledger.image_prefix(project.id, view.image.id) + "original"),
            }
            for view in found
        ]


def counts(house: Components, project: Project) -> dict[str, Any]:
    with house.database.read() as session:
        row = projects.get(session, project.account_id, project.id)
        return {
            "project": (row.image_count, row.tagged_count, row.iterations_made),
            "tags": sorted((tag.name, tag.type, tag.image_count) for tag in tags.all(session, row)),
            "iterations": [
                (
                    one.number,
                    one.name,
                    one.image_count,
                    one.tagged_count,
                    one.revision,
                    one.trained_at,
                    one.pipeline,
                    one.training_seconds,
                    sorted((tag.name, tag.image_count) for tag in tags.all(session, row, one.id)),
                )
                for one in iterations.all(session, row)
            ],
        }


def model_of(house: Components, project: Project, iteration_id: str) -> bytes:
    return house.blobs.read(ledger.iteration_prefix(project.id, iteration_id) + MODEL)


def nothing_is_wrong(house: Components) -> None:
    t.files(house)
    assert list(doctor(house)) == []


@dataclass
class Origin:
    """A classifier with a past: trained, then changed."""

    house: Components
    project: Project
    tags: dict[str, str]
    iteration: Iteration
    archive: bytes


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    house = t.open_house(tmp_path_factory.mktemp("origin") / "data")
    project = t.make_project(house, "Colours")
    ids = t.fill(house, project, {"red": 9, "blue": 6})
    named = Picture("x", lambda: t.coloured(2, 0), file_name="the green one.png", tag_ids=[ids["red"]])
    intake.add_images(house, project.account_id, project.id, "key", [named], metadata={"site": "north"})
    iteration = t.train(house, project)
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        found = images.find(session, locked, newest=False)
        images.delete_images(session, locked, [found[0].image.id], all_iterations=False)
        images.delete_images(session, locked, [found[1].image.id], all_iterations=True)
        images.remove_tags(session, locked, [found[2].image.id], [ids["red"]])
        session.get_one(Tag, ids["blue"]).name = "navy"
    t.upload(house, project, [t.coloured(3, 1)], [])
    yield Origin(house, now_of(house, project), ids, iteration, archive_of(house, export_of(house, project)))
    house.database.close()


def archive_of(house: Components, export: ProjectExport) -> bytes:
    return b"".join(leaving.stream(house, export))


def test_a_copy_is_what_the_project_was(origin: Origin) -> None:
    copy = bring(origin.house, token_of(origin.house, origin.project))
    assert (copy.status, copy.name) == ("Succeeded", "Colours (1)")
    assert look(origin.house, copy) == look(origin.house, origin.project)
    assert counts(origin.house, copy) == counts(origin.house, origin.project)
    assert (copy.revision, copy.domain_id) == (origin.project.revision, origin.project.domain_id)
    assert (copy.classification_type, copy.augmentation) == (
        origin.project.classification_type,
        origin.project.augmentation,
    )
    with origin.house.database.read() as session:
        assert not session.scalar(select(Image.id).where(Image.project_id == copy.id, Image.uploaded_by.is_not(None)))
        there = set(session.scalars(select(Image.id).where(Image.project_id == origin.project.id)))
        assert not there & set(session.scalars(select(Image.id).where(Image.project_id == copy.id)))
    nothing_is_wrong(origin.house)


def test_an_iteration_of_a_copy_sees_knows_and_says_the_same(origin: Origin) -> None:
    copy = bring(origin.house, token_of(origin.house, origin.project), "Another name")
    with origin.house.database.read() as session:
        (made,) = iterations.all(session, copy)
        assert (copy.name, made.status, made.publish_name, made.is_default) == (
            "Another name",
            "Completed",
            None,
            False,
        )
        assert made.id != origin.iteration.id
        both = [(origin.project, origin.iteration), (copy, made)]
        tag_names = [
            {tag.name: tag.id for tag in tags.all(session, project, iteration.id)} for project, iteration in both
        ]
        shown = [performance.of_iteration(session, project, iteration.id) for project, iteration in both]
        pages = [performance.images(session, project, iteration.id) for project, iteration in both]
        erased = [
            set(session.scalars(select(Lineage.image_id).where(Lineage.iteration_id == one.id))) for _, one in both
        ]
    assert tag_names[0].keys() == tag_names[1].keys() == {"red", "blue"}
    assert not set(tag_names[0].values()) & set(tag_names[1].values())
    for one in (*shown[0]["perTagPerformance"], *shown[1]["perTagPerformance"]):
        del one["id"]
    assert shown[0] == shown[1]
    assert len(erased[0]) == 1
    assert erased[0] == erased[1]
    assert len(pages[0]) == len(pages[1]) == 15
    assert [[row["probability"] for row in said] for _, said in pages[0]] == [
        [row["probability"] for row in said] for _, said in pages[1]
    ]
    assert look(origin.house, copy, made.id) == look(origin.house, origin.project, origin.iteration.id)
    models = [load(model_of(origin.house, project, iteration.id)) for project, iteration in both]
    assert [[names[id] for id in model.tag_ids] for model, names in zip(models, map(_turned, tag_names), strict=True)]
    answers = [model.predict(t.coloured(1, 99)) for model in models]
    assert all(isinstance(answer, Classification) for answer in answers)
    np.testing.assert_array_equal(answers[0].probabilities, answers[1].probabilities)  # type: ignore[union-attr]


def _turned(names: dict[str, str]) -> dict[str, str]:
    return {id: name for name, id in names.items()}


def test_a_copy_goes_on_as_the_project_would(origin: Origin) -> None:
    """Training it makes the next iteration; deleting the first takes what only that had."""
    house = origin.house
    copy = bring(house, token_of(house, origin.project))
    second = t.train(house, copy, force=True)
    assert (second.number, second.status) == (2, "Completed")
    with house.database.write() as session:
        locked = projects.get(session, copy.account_id, copy.id, lock=True)
        iterations.delete(session, locked, iterations.all(session, locked)[1].id)
    assert len(look(house, copy)) == copy.image_count
    nothing_is_wrong(house)


def boxed(house: Components) -> tuple[Project, list[str], list[str]]:
    """A detection project with an iteration whose model was written by hand; ids of its tags and images."""
    project = t.make_project(house, "Squares", domain_id=t.DETECTION)
    tag_ids = [t.make_tag(house, project, name) for name in ("red", "blue")]
    made = []
    for seed in range(3):
        boxes = [Box(tag_id, *t.place(seed, colour)) for colour, tag_id in enumerate(tag_ids)]
        made += t.upload(house, project, [t.squares(seed)], [], boxes)
    trained_by_hand(house, project, tag_ids, made)
    return now_of(house, project), tag_ids, made


def detector(tag_ids: Sequence[str], **own: str) -> bytes:
    """Two fixed boxes whose scores hang on the picture."""
    graph = Graph()
    mean = graph.mul(graph.flat_mean("image"), graph.constant(np.float32(1 / 255)))
    gemm = graph.node(
        "Gemm", [mean, graph.constant(np.ones((3, 4), np.float32)), graph.constant(np.zeros(4, np.float32))]
    )
    graph.node("Reshape", [graph.node("Sigmoid", [gemm]), graph.constant(np.array([-1, 2, 2]))], "scores")
    flat = graph.node("Sigmoid", [graph.concat([gemm, gemm], 1)])
    graph.node("Reshape", [flat, graph.constant(np.array([-1, 2, 4]))], "boxes")
    return graph.model(
        input_size=(32, 32),
        outputs=[("boxes", ["N", 2, 4]), ("scores", ["N", 2, 2])],
        metadata={**metadata("detection", tag_ids, "efficientnet_lite0", (32, 32)), **own},
    )


def trained_by_hand(house: Components, project: Project, tag_ids: Sequence[str], made: Sequence[str]) -> str:
    iteration_id = new_id()
    prefix = ledger.iteration_prefix(project.id, iteration_id)
    ledger.reserve(house.database, [(prefix, "iteration", project.account_id, project.id)])
    house.blobs.put_new(prefix + MODEL, detector(tag_ids))
    with house.database.write() as session:
        row = session.get_one(Project, project.id)
        row.iterations_made = 1
        session.add(
            Iteration(
                id=iteration_id,
                project_id=project.id,
                number=1,
                name="Iteration 1",
                status="Completed",
                trained_at=now(),
                revision=row.revision,
                domain_id=row.domain_id,
                classification_type="Multiclass",
                pipeline="by hand",
                image_count=3,
                tagged_count=3,
                selected_tags=list(tag_ids),
            )
        )
        session.flush()
        session.add_all(
            IterationTag(iteration_id=iteration_id, tag_id=id, position=place, name=name, type="Regular", image_count=3)
            for place, (id, name) in enumerate(zip(tag_ids, ("red", "blue"), strict=True))
        )
        scores = np.array([[0, 0.5, *t.place(0, 0)], [1, 0.25, *t.place(0, 1)]], "<f4").tobytes()
        truth = np.array([[0, *t.place(0, 0)]], "<f4").tobytes()
        session.add_all(ScoredImage(iteration_id=iteration_id, image_id=id, scores=scores, truth=truth) for id in made)
        ledger.make_live(session, [prefix])
    return iteration_id


def change(house: Components, project: Project, do: Callable[[Any, Project], object]) -> None:
    with house.database.write() as session:
        do(session, projects.lock(session, project.account_id, project.id))


def test_regions_arrive_in_the_workspace_and_in_iterations(house: Components) -> None:
    project, tag_ids, made = boxed(house)

    def shift(session: Any, locked: Project) -> None:
        red = session.scalars(select(Region.id).where(Region.tag_id == tag_ids[0]).order_by(Region.seq)).all()
        regions.remove(session, locked, red[:2])
        regions.add(
            session,
            locked,
            [regions.RegionEntry(made[0], Box(tag_ids[0], 0.1, 0.2, 0.3, 1 / 3))],
            house.settings.limits,
        )

    change(house, project, shift)
    copy = bring(house, token_of(house, project))
    assert copy.status == "Succeeded", job_of(house, copy).error
    assert look(house, copy) == look(house, project)
    assert counts(house, copy) == counts(house, project)
    with house.database.read() as session:
        (old,), (new,) = iterations.all(session, project), iterations.all(session, copy)
        shown = [
            {**performance.of_iteration(session, of, one.id), "perTagPerformance": None}
            for of, one in ((project, old), (copy, new))
        ]
        both = [session.get_one(Project, one.id).image_count for one in (project, copy)]
    assert look(house, copy, new.id) == look(house, project, old.id)
    assert shown[0] == shown[1]
    assert both == [3, 3]
    assert len(load(model_of(house, copy, new.id)).tag_ids) == 2
    nothing_is_wrong(house)


def test_what_was_erased_since_is_missing_and_counted_so(house: Components) -> None:
    project, tag_ids, made = boxed(house)
    (later,) = t.upload(house, project, [t.squares(9)], [], [Box(tag_ids[0], 0.1, 0.1, 0.2, 0.2)])
    promised = token_of(house, project)
    change(house, project, lambda session, locked: images.delete_images(session, locked, [later], all_iterations=False))
    change(house, project, lambda session, locked: images.delete_images(session, locked, made[:1], all_iterations=True))
    change(house, project, lambda session, locked: tags.delete(session, locked, tag_ids[1]))
    copy = bring(house, promised)
    assert copy.status == "Succeeded", job_of(house, copy).error
    assert job_of(house, copy).payload == {
        "arrived": {"images": 2, "tags": 1, "regions": 4, "iterations": 1},
        "missing": {"images": 2, "tags": 1, "regions": 3, "iterations": 0},
    }
    assert [[name for name, _ in one["tags"]] for one in look(house, copy)] == [["red"], ["red"]]
    with house.database.read() as session:
        (iteration,) = iterations.all(session, copy)
        assert (iteration.image_count, iteration.tagged_count) == (2, 2)
        assert [tag.image_count for tag in tags.all(session, copy, iteration.id)] == [2, 2]
        scored = session.scalars(select(ScoredImage.image_id).where(ScoredImage.iteration_id == iteration.id)).all()
        assert sorted(one is None for one in scored) == [False, False, True]
    assert [len(one["regions"]) for one in look(house, copy, iteration.id)] == [2, 2]
    nothing_is_wrong(house)


def test_what_is_erased_while_it_travels_is_missing_too(house: Components) -> None:
    project = t.make_project(house, "Colours")
    made = t.upload(house, project, [t.coloured(0, seed) for seed in range(60)], [])
    export = export_of(house, project)
    stream = leaving.members(leaving.Departure(house, export))  # by members, where `stream` gathers many
    parts = [next(stream) for _ in range(4)]
    change(
        house,
        project,
        lambda session, locked: images.delete_images(session, locked, [made[5], made[59]], all_iterations=True),
    )
    t.files(house)
    with Server(b"".join([*parts, *stream, tar.END])) as server:
        copy = bring(allowing(house), server.token)
    assert copy.status == "Succeeded", job_of(house, copy).error
    assert job_of(house, copy).payload["missing"]["images"] == 2
    assert len(look(house, copy)) == copy.image_count == 58
    nothing_is_wrong(house)


def test_what_was_made_after_the_token_stays_behind(house: Components) -> None:
    project, tag_ids, made = boxed(house)
    token, before = token_of(house, project), look(house, project)
    t.upload(house, project, [t.squares(20)], [], [Box(tag_ids[0], 0.1, 0.1, 0.2, 0.2)])
    t.make_tag(house, project, "green")
    entry = regions.RegionEntry(made[0], Box(tag_ids[0], 0.6, 0.6, 0.2, 0.2))
    change(house, project, lambda session, locked: regions.add(session, locked, [entry], house.settings.limits))
    copy = bring(house, token)
    assert look(house, copy) == before
    with house.database.read() as session:
        assert [tag.name for tag in tags.all(session, copy)] != []
        assert {tag.name for tag in tags.all(session, copy)} == {"red", "blue"}


def test_a_project_is_not_exported_while_it_is_trained(house: Components) -> None:
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 5, "blue": 5})
    t.start(house, project)
    with pytest.raises(OwnVisionError) as refusal:
        export_of(house, project)
    assert refusal.value.code == "BadRequestExportWhileTraining"


def revoked(house: Components, project: Project, token: str) -> str:
    with house.database.write() as session:
        tokens.revoke(session, project, tokens.all(session, project)[0].id)
    return token


def expired(house: Components, project: Project, token: str) -> str:
    with house.database.write() as session:
        session.scalars(select(ProjectExport)).one().expires = now() - timedelta(seconds=1)
    return token


def deleted(house: Components, project: Project, token: str) -> str:
    t.close(house, project)
    return token


SPOILT: list[tuple[str, Callable[[Components, Project, str], str]]] = [
    ("revoked", revoked),
    ("expired", expired),
    ("its project deleted", deleted),
    ("later than it was signed for", lambda house, project, token: token.replace("se=20", "se=21")),
    ("another row", lambda house, project, token: token.replace("id=", "id=0")),
    ("another project", lambda house, project, token: token.replace(project.id.replace("-", ""), "0" * 32)),
    ("cut at the first ampersand", lambda house, project, token: token.partition("&")[0]),
    ("of another host", lambda house, project, token: token.replace("sig=", "sig=x").replace(":1/", ":2/")),
    ("no address", lambda house, project, token: "token"),
    ("no address either", lambda house, project, token: "http://[::1"),
    ("a file", lambda house, project, token: "file:///etc/passwd"),
    ("a picture's", lambda house, project, token: f"{BASE}{uris.image_path(project.id, project.id, 'original')}"),
]


@pytest.mark.parametrize(("name", "spoil"), SPOILT, ids=[name for name, _ in SPOILT])
def test_a_spoilt_token_opens_nothing(house: Components, name: str, spoil: Callable[..., str]) -> None:
    project = t.make_project(house, "Colours")
    token = spoil(house, project, token_of(house, project))
    with pytest.raises(OwnVisionError) as refusal:
        arriving.start(house, project.account_id, BASE, token, None)
    assert refusal.value.code == "BadRequestInvalidImportToken"
    with house.database.read() as session:
        assert len(projects.all(session, project.account_id)) <= 1


def test_a_token_may_be_encoded_once_more_and_name_this_service_otherwise(house: Components) -> None:
    project = t.make_project(house, "Colours")
    token = token_of(house, project)
    for given in (quote(token, safe=""), token.replace(BASE, "https://cv.example.com/below")):
        assert bring(house, given).status == "Succeeded"


def test_tokens_are_forgotten_a_week_after_they_expired(house: Components) -> None:
    export = export_of(house, t.make_project(house, "Colours"))
    for days, left in ((6, 1), (8, 0)):
        assert sum(retention.enforce(house.database, house.settings, export.expires + timedelta(days=days))) <= 1
        with house.database.read() as session:
            assert len(session.scalars(select(ProjectExport)).all()) == left


def test_a_token_revoked_before_the_job_begins_fails_the_import(house: Components) -> None:
    project = t.make_project(house, "Colours")
    copy = arriving.start(house, project.account_id, BASE, token_of(house, project), None)
    revoked(house, project, "")
    t.work(house)
    assert now_of(house, copy).status == "Failed"
    assert "revoked" in str(job_of(house, copy).error)


def test_a_project_is_read_only_until_it_has_arrived(house: Components) -> None:
    project = t.make_project(house, "Colours")
    t.upload(house, project, [t.coloured(0, 0)], [])
    copy = arriving.start(house, project.account_id, BASE, token_of(house, project), None)
    with house.database.read() as session:
        assert tokens.valid(session, "nothing") is None
    for attempt in (
        lambda: t.upload(house, copy, [t.coloured(0, 1)], []),
        lambda: t.make_tag(house, copy, "red"),
        lambda: t.start(house, copy),
        lambda: export_of(house, copy),
    ):
        with pytest.raises(OwnVisionError) as refusal:
            attempt()
        assert refusal.value.code == "BadRequestOperationNotSupported"
    t.close(house, copy)
    t.work(house)
    nothing_is_wrong(house)


def test_a_cancelled_import_leaves_a_failed_project_without_images(house: Components) -> None:
    project = t.make_project(house, "Colours")
    t.upload(house, project, [t.coloured(0, 0)], [])
    copy = arriving.start(house, project.account_id, BASE, token_of(house, project), None)
    claim = t.claim(house, rows.QUICK)
    while claim.kind != "import":  # the embedding of what was uploaded
        with house.database.write() as session:
            rows.finish(session, claim)
        claim = t.claim(house, rows.QUICK)
    with house.database.write() as session:
        rows.cancel_job(session, claim.job_id)
    t.runner.run(house, claim)
    assert (now_of(house, copy).status, job_of(house, copy).state) == ("Failed", "cancelled")
    t.close(house, copy)


def test_a_second_attempt_begins_with_nothing_of_the_first(house: Components) -> None:
    """What a killed attempt leaves: tags, images, bytes only reserved. `tests/jobs/test_import.py` kills one."""
    project = t.make_project(house, "Colours")
    t.fill(house, project, {"red": 3})
    copy = arriving.start(house, project.account_id, BASE, token_of(house, project), None)
    with house.database.write() as session:
        row = session.get_one(Project, copy.id)
        row.status = "Succeeded"
    t.fill(house, copy, {"red": 2, "blue": 1})
    stale = ledger.image_prefix(copy.id, new_id())
    ledger.reserve(house.database, [(stale, "image", copy.account_id, copy.id)])
    house.blobs.put_new(stale + "original", b"half", durable=False)
    with house.database.write() as session:
        session.get_one(Project, copy.id).status = "Importing"
    t.work(house)
    assert now_of(house, copy).status == "Succeeded"
    assert look(house, copy) == look(house, project)
    assert counts(house, copy) == counts(house, project)
    assert not [key for key in t.files(house) if key.startswith(stale)]
    nothing_is_wrong(house)


def test_a_full_disk_ends_an_import_with_a_reason(house: Components) -> None:
    project = t.make_project(house, "Colours")
    t.upload(house, project, [t.coloured(0, 0)], [])
    full = with_settings(house, min_free_bytes=2**60)
    copy = bring(full, token_of(house, project))
    assert copy.status == "Failed"
    assert "disk is nearly full" in str(job_of(house, copy).error)
    nothing_is_wrong(house)


def with_settings(house: Components, **values: Any) -> Components:
    return Components(
        settings=house.settings.model_copy(update=values),
        database=house.database,
        blobs=house.blobs,
        keys=house.keys,
        models=house.models,
    )


def allowing(house: Components) -> Components:
    """The same installation, which may fetch from this machine."""
    return with_settings(house, url_allow=["127.0.0.0/8"], url_timeout=5.0)


class Server:
    """Another installation, as far as its archive goes."""

    def __init__(self, archive: bytes, status: int = 200, endless: bool = False) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                with suppress(ConnectionError):  # the reader has seen enough
                    self.wfile.write(archive)
                    while endless:
                        self.wfile.write(bytes(65_536))

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        path = f"/prjexp-{'0' * 32}/project-export-info?id={new_id()}&sig=theirs&se=2099"
        self.token = f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_foreign_address_is_called_only_where_that_is_allowed(house: Components, origin: Origin) -> None:
    project = t.make_project(house, "Mine")
    with Server(origin.archive) as server:
        with pytest.raises(OwnVisionError, match="OWNVISION_URL_ALLOW") as refusal:
            arriving.start(house, project.account_id, BASE, server.token, None)
        assert refusal.value.code == "BadRequestInvalidImportToken"
        copy = bring(allowing(house), server.token)
    assert copy.status == "Succeeded", job_of(house, copy).error
    assert look(house, copy) == look(origin.house, origin.project)
    nothing_is_wrong(house)


@pytest.mark.parametrize(
    ("archive", "status"),
    [(b"", 200), (b"Hello" * 1_000, 200), (tar.member("project.json", b"{}"), 200), (b"gone", 403)],
    ids=["nothing", "no archive", "no project", "a refusal"],
)
def test_what_is_no_project_is_refused_at_once(house: Components, archive: bytes, status: int) -> None:
    project = t.make_project(house, "Mine")
    with Server(archive, status) as server, pytest.raises(OwnVisionError) as refusal:
        arriving.start(allowing(house), project.account_id, BASE, server.token, None)
    assert refusal.value.code == "BadRequestInvalidImportToken"


def test_the_address_is_not_kept_as_it_is_nor_after_the_end(house: Components, origin: Origin) -> None:
    project = t.make_project(house, "Mine")
    with Server(origin.archive[: len(origin.archive) // 2]) as server:
        copy = arriving.start(allowing(house), project.account_id, BASE, server.token, None)
        kept = json.dumps(job_of(house, copy).payload)
        assert "prjexp" not in kept
        assert "theirs" not in kept
        t.work(allowing(house))
    assert job_of(house, copy).payload == {}


# What a stranger may send -----------------------------------------------------------------------------------------


def opened(archive: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return [(one.name, file.extractfile(one).read()) for one in file]  # type: ignore[union-attr]


def closed(members: Members) -> bytes:
    return b"".join(tar.member(name, data) for name, data in members) + tar.END


def edited(name: str, *path: str | int, to: Any) -> Callable[[Members], bytes]:
    """Change one value of one JSON member."""

    def edit(members: Members) -> bytes:
        changed = []
        for member, data in members:
            if member == name:
                content = json.loads(data)
                at = content
                for step in path[:-1]:
                    at = at[step]
                at[path[-1]] = to(at[path[-1]]) if callable(to) else to
                data = json.dumps(content).encode()
            changed.append((member, data))
        assert changed != members
        return closed(changed)

    return edit


def replaced(kind: str, data: Callable[[bytes], bytes], name: str | None = None) -> Callable[[Members], bytes]:
    """Change the bytes, or the name, of the first member of a kind."""

    def replace(members: Members) -> bytes:
        place = next(place for place, (member, _) in enumerate(members) if kind in member and "json" not in member)
        found, was = members[place]
        return closed([*members[:place], (name or found, data(was)), *members[place + 1 :]])

    return replace


def lying(members: Members) -> bytes:
    """A header that says another size than what follows."""
    place = next(place for place, (name, _) in enumerate(members) if name.startswith("images/") and "json" not in name)
    name, data = members[place]
    block = tar.member(name, data + bytes(10_000))[:512]
    rest = tar.member(name, data)[512:]
    return closed(members[:place])[: -len(tar.END)] + block + rest + closed(members[place + 1 :])


def link(members: Members) -> bytes:
    info = tarfile.TarInfo("images/1")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return closed(members[:3])[: -len(tar.END)] + info.tobuf(tarfile.USTAR_FORMAT) + tar.END


def remade(change: Callable[[onnx.ModelProto], object]) -> Callable[[bytes], bytes]:
    def remake(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        change(model)
        return bytes(model.SerializeToString())

    return remake


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def looping(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Loop"


def swollen(model: onnx.ModelProto) -> None:
    last = model.graph.node[0].output[0]
    for number in range(20):
        model.graph.node.insert(number + 1, onnx.helper.make_node("Concat", [last, last], [f"twice_{number}"], axis=1))
        last = f"twice_{number}"


def untagged(model: onnx.ModelProto) -> None:
    next(one for one in model.metadata_props if one.key == "ownvision.tags").value = '["x", "y"]'


def twice_the_first_picture(members: Members) -> bytes:
    names = [name for name, _ in members if name.startswith("images/") and "json" not in name]
    page = json.loads(dict(members)["images/000000.json"])
    live = [place for place, row in enumerate(page["images"]) if row["until"] is None]
    first, second = live[0], live[1]
    page["images"][second]["sha256"] = page["images"][first]["sha256"]
    page["images"][second]["size"] = page["images"][first]["size"]
    data = dict(members)
    data[names[second]] = data[names[first]]
    data["images/000000.json"] = json.dumps(page).encode()
    return closed([(name, data[name]) for name, _ in members])


def more_than_promised(members: Members) -> bytes:
    return edited("project.json", "counts", "images", to=3)(members)


def swapped(members: Members) -> bytes:
    return closed([members[0], members[2], members[1], *members[3:]])


def nothing_but_pages(members: Members) -> bytes:
    """All pictures are missing: what says nothing must end, too."""
    row = json.loads(dict(members)["images/000000.json"])["images"][0]
    pages: Members = []
    for number in range(200):
        pages += [
            (f"images/{number:06}.json", json.dumps({"images": [row | {"seq": number}]}).encode()),
            (f"images/{number}.missing", b""),
        ]
    return closed([*members[:2], *pages])


IMAGES, TAGS, ITERATION = "images/000000.json", "tags.json", "iterations/1.json"
NOBODY = "00000000-0000-4000-8000-000000000000"
HOSTILE: list[tuple[str, Callable[[Members], bytes], str]] = [
    ("cut in the middle", lambda members: closed(members)[:20_000], "ends before"),
    ("without its end", lambda members: closed(members)[: -len(tar.END)], "ends before"),
    ("without its counts", lambda members: closed(members[:-1]), "no tar archive"),
    ("with something after its end", lambda members: closed(members) + b"more", "should end"),
    ("out of order", swapped, "tags.json should come"),
    ("another name", replaced("images/", lambda data: data, "../../etc/passwd"), "should come"),
    ("a link", link, "no regular file"),
    ("a size that lies", lying, "no tar archive"),
    ("a page without images", edited(IMAGES, "images", to=[]), "can't be read"),
    ("huge JSON", lambda members: closed([members[0], (TAGS, b" " * (17 * 2**20))]), "it may have"),
    ("deep JSON", lambda members: closed([members[0], (TAGS, b"[" * 100_000)]), "can't be read"),
    ("no JSON", lambda members: closed([members[0], (TAGS, b"\xff\xfe")]), "can't be read"),
    ("an unknown field", edited(IMAGES, "images", 0, to=lambda row: row | {"id": NOBODY}), "can't be read"),
    ("another picture", replaced("images/", lambda data: t.coloured(1, 1_000)), "not the picture"),
    ("no picture", replaced("images/", lambda data: b"GIF89a" + bytes(300)), "no picture"),
    ("half a picture", replaced("images/", lambda data: data[:-200]), "no picture"),
    ("a large picture", replaced("images/", lambda data: bytes(6_000_001)), "it may have"),
    ("another hash", edited(IMAGES, "images", 0, "sha256", to="0" * 64), "not the picture"),
    ("another size", edited(IMAGES, "images", 0, "size", to=7), "not the picture"),
    ("one picture twice", twice_the_first_picture, "twice"),
    ("an unknown tag", edited(IMAGES, "images", 1, "tags", 0, "tag", to=NOBODY), "not among the project's"),
    ("a tag twice", edited(TAGS, "tags", to=lambda rows: rows + rows[:1]), "more than the"),
    ("a name twice", edited(TAGS, "tags", 1, "name", to="red"), "Another tag"),
    ("an unknown kind of tag", edited(TAGS, "tags", 1, "type", to="Ghost"), "type is"),
    ("intervals of no revision", edited(IMAGES, "images", 0, "until", to=10**6), "none of the project's"),
    ("intervals that end before they begin", edited(IMAGES, "images", 0, "until", to=0), "none of the project's"),
    ("metadata beyond the limit", edited(IMAGES, "images", 0, "metadata", to={"a" * 200: ""}), "metadata key"),
    (
        "boxes where there are none",
        edited(
            IMAGES,
            "images",
            -1,
            "regions",
            to=[{"since": 1, "until": None, "tag": NOBODY, "box": [0, 0, 1, 1], "created": "2026-01-01T00:00:00Z"}],
        ),
        "not among",
    ),
    ("pictures out of order", edited(IMAGES, "images", 1, "seq", to=0), "out of its order"),
    ("more than it promised", more_than_promised, "more than the 3 images"),
    ("endless pages", nothing_but_pages, "more than the"),
    ("counts that lie", edited("counts.json", "sent", "images", to=1), "It says that it holds 1 images"),
    ("an iteration of later", edited(ITERATION, "revision", to=10**6), "froze revision"),
    ("an iteration of nothing", edited(ITERATION, "tags", to=[]), "which tags its model knows"),
    ("an iteration of another kind", edited(ITERATION, "domain_id", to=t.DETECTION), "not for this kind"),
    ("another number", edited(ITERATION, "number", to=9), "out of its order"),
    ("scores of nothing", edited("iterations/1-000000.json", "scored", 0, "scores", to="AAAA"), "scores that are none"),
    (
        "scores that are no number",
        edited(
            "iterations/1-000000.json",
            "scored",
            0,
            "scores",
            to=base64.b64encode(np.array([np.nan, 0], "<f4").tobytes()).decode(),
        ),
        "scores that are none",
    ),
    ("scores of no image", edited("iterations/1-000000.json", "scored", 3, "image", to=10**6), "does not hold"),
    ("a model elsewhere", replaced(".onnx", remade(outside)), "in other files"),
    ("a model that loops", replaced(".onnx", remade(looping)), "operator 'Loop'"),
    ("a model that swells", replaced(".onnx", remade(swollen)), "too large"),
    ("a model of other tags", replaced(".onnx", remade(untagged)), "other tags"),
    ("a model that is none", replaced(".onnx", lambda data: b"\xff" * 100), "no ONNX"),
    ("half a model", replaced(".onnx", lambda data: data[: len(data) // 2]), "can't be used"),
]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Components]:
    components = t.open_house(tmp_path_factory.mktemp("victim") / "data")
    t.make_project(components, "Mine")
    yield allowing(components)
    components.database.close()


@pytest.mark.parametrize(("name", "spoil", "why"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_a_hostile_archive_fails_and_changes_nothing_else(
    victim: Components, origin: Origin, name: str, spoil: Callable[[Members], bytes], why: str
) -> None:
    with Server(spoil(opened(origin.archive))) as server:
        copy = bring(victim, server.token)
    error = str(job_of(victim, copy).error)
    assert copy.status == "Failed", name
    assert why in error
    assert "unexpected" not in error
    assert (copy.image_count, copy.tagged_count, copy.revision) == (0, 0, 0)
    with victim.database.write() as session:
        for table in (Image, ImageTag, Region, Tag, Iteration):
            assert session.scalar(select(table).where(table.project_id == copy.id)) is None
        session.execute(delete(Project).where(Project.id == copy.id))
        mine = projects.all(session, copy.account_id)
        assert [(one.name, one.revision) for one in mine] == [("Mine", 0)]
    victim.keys.destroy_project(copy.id)
    assert t.files(victim) == set()


def test_an_endless_archive_is_left_where_it_should_have_ended(victim: Components, origin: Origin) -> None:
    with Server(origin.archive, endless=True) as server:
        copy = bring(victim, server.token)
    assert copy.status == "Failed"
    assert "should end" in str(job_of(victim, copy).error)


BOXED: list[tuple[str, Callable[[Members], bytes], str]] = [
    ("a box outside", edited(IMAGES, "images", 0, "regions", 0, "box", to=[0.9, 0.1, 0.5, 0.5]), "inside the picture"),
    ("a box of no number", edited(IMAGES, "images", 0, "regions", 0, "box", 0, to=None), "can't be read"),
    ("a box of an unknown tag", edited(IMAGES, "images", 0, "regions", 0, "tag", to=NOBODY), "not among"),
    ("tags without boxes", edited(IMAGES, "images", 0, "regions", to=[]), "other tags than its regions"),
    ("another task", edited("project.json", "domain_id", to=t.COMPACT), "but the project classifies"),
    ("a model of another task", replaced(".onnx", remade(lambda model: model.graph.output.pop())), "input or outputs"),
]


@pytest.mark.parametrize(("name", "spoil", "why"), BOXED, ids=[name for name, _, _ in BOXED])
def test_a_hostile_archive_of_a_detector_fails(
    house: Components, name: str, spoil: Callable[[Members], bytes], why: str
) -> None:
    project, _, _ = boxed(house)
    archive = archive_of(house, export_of(house, project))
    with Server(spoil(opened(archive))) as server:
        copy = bring(allowing(house), server.token)
    assert copy.status == "Failed", name
    assert why in str(job_of(house, copy).error)
    nothing_is_wrong(house)
