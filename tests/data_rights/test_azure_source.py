"""What was fetched of a resource becomes rows: intervals, ids, and what a project here can't hold."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownvision.data_rights.azure_import import answers, crawl
from ownvision.data_rights.azure_import.source import AzureProject, AzureSource
from ownvision.data_rights.azure_import.work import Fetched, Work, packed
from ownvision.data_rights.takeout.source import Picture
from ownvision.domains import DOMAINS
from ownvision.store.tables.base import now

P = "11111111-1111-4111-8111-111111111111"
CLASSIFIER, DETECTOR = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31", "da2e3a8a-40a5-4171-82f4-58522f70fbc1"
WHEN = "2024-01-02T03:04:05.1234567"
Box = tuple[str, float, float, float, float]


def uid(kind: str, number: int) -> str:
    return f"{ord(kind):08x}-0000-4000-8000-{number:012}"


class Made:
    """A work folder as a crawl would leave it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.shape = {
            "id": P,
            "name": "Made",
            "created": WHEN,
            "lastModified": WHEN,
            "settings": {"domainId": CLASSIFIER, "exportModelContainerUri": "https://x/?sig=secret"},
        }
        self.iterations = 0

    def project(self, domain_id: str = CLASSIFIER, kind: str = "Classification", **settings: Any) -> None:
        self.shape["settings"] = {**self.shape["settings"], "domainId": domain_id, **settings}  # type: ignore[dict-item]
        self.work.put("INSERT INTO facts VALUES ('domains', ?)", json.dumps({domain_id: kind}))
        self.work.put("INSERT INTO projects VALUES (?, 0, ?)", P, json.dumps(self.shape))

    def tags(self, *numbers: int, iteration: str = "") -> None:
        for place, number in enumerate(numbers):
            shape = {"id": uid("t", number), "name": f"tag {number}", "type": "Regular", "imageCount": 0}
            self.work.put(
                "INSERT INTO tags VALUES (?, ?, ?, ?, ?)", P, iteration, place, shape["id"], json.dumps(shape)
            )

    def iteration(self, *numbers: int, name: str = "", status: str = "Completed") -> str:
        """One that learned these tags, in this order."""
        self.iterations += 1
        id = uid("i", self.iterations)
        shape = {"id": id, "name": name or f"Iteration {self.iterations}", "status": status, "created": WHEN}
        figures = {"precision": 0.5, "recall": 1.0, "averagePrecision": None}
        per_tag = [{"id": uid("t", number), "name": f"tag {number}", **figures} for number in numbers]
        trained = sum(1 for _ in self.work.rows("SELECT 1 FROM iterations WHERE revision IS NOT NULL")) + 1
        self.work.put(
            "INSERT INTO iterations VALUES (?, ?, ?, ?, ?, ?)",
            *(P, id, self.iterations, trained if status == "Completed" else None),
            json.dumps({**shape, "lastModified": WHEN, "domainId": CLASSIFIER}),
            json.dumps({"perTagPerformance": per_tag, **figures}),
        )
        self.tags(*sorted(numbers), iteration=id)
        return id

    def image(
        self, number: int, revisions: dict[int, tuple[list[int], list[Box]]], *, live: bool = True, sha256: str = ""
    ) -> None:
        """One that carries these tags and boxes in each revision; the last is the workspace, if it is live."""
        for revision, (tags, boxes) in sorted(revisions.items()):
            shape = {
                "id": uid("p", number),
                "created": f"2024-01-02T03:04:{number:02}",
                "originalImageUri": "x",
                "tags": [{"tagId": uid("t", tag), "created": WHEN} for tag in tags],
                "regions": [
                    {
                        "regionId": uid("r", 100 * number + place),
                        "tagId": uid("t", int(tag)),
                        "created": WHEN,
                        **dict(zip(("left", "top", "width", "height"), sides, strict=True)),
                    }
                    for place, (tag, *sides) in enumerate(boxes)
                ],
            }
            in_workspace = live and revision == max(revisions)
            iteration = "" if in_workspace else uid("i", revision)
            crawl._keep_image(self.work, P, iteration, revision, answers.one(answers.Image, shape), shape)
        self.work.put("UPDATE images SET seq = row")
        self.work.keep(P, uid("p", number), Fetched(sha256 or f"{number:064x}", 10, 30, 20, "PNG"))

    def read(self) -> tuple[AzureProject, dict[int, Picture]]:
        source = AzureSource(self.work, "https://x", now())
        (project,) = source.projects()
        return project, {int(one.row.id[-12:]): one for one in project.images()}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    work = Work(tmp_path / "work", {"endpoint": "https://x", "wanted": "[]"})
    yield Made(work)
    work.close()


def links(picture: Picture) -> list[tuple[int, int, int | None]]:
    return [(int(link.tag[-12:]), link.since, link.until) for link in picture.row.tags]


def test_what_differs_between_iterations_becomes_intervals(made: Made) -> None:
    made.project()
    made.tags(1, 2)
    made.iteration(1, 2)
    made.iteration(1, 2)
    one: list[Box] = []
    made.image(1, {1: ([1], one), 2: ([1], one), 3: ([1], one)})
    made.image(2, {1: ([1], one), 2: ([1, 2], one), 3: ([2], one)})
    made.image(3, {1: ([1], one), 2: ([], one), 3: ([1], one)})
    made.image(4, {1: ([2], one)}, live=False)
    made.image(5, {3: ([], one)})
    project, found = made.read()
    assert {number: (one.row.since, one.row.until) for number, one in found.items()} == {
        1: (1, None),
        2: (1, None),
        3: (1, None),
        4: (1, 2),
        5: (3, None),
    }
    assert {number: links(one) for number, one in found.items()} == {
        1: [(1, 1, None)],
        2: [(1, 1, 3), (2, 2, None)],
        3: [(1, 1, 2), (1, 3, None)],
        4: [(2, 1, 2)],
        5: [],
    }
    assert [number for number, one in found.items() if not one.in_workspace] == [4]
    assert (project.head.revision, project.head.counts.images, project.notes) == (3, 5, [])


def test_boxes_keep_the_ids_that_the_workspace_shows(made: Made) -> None:
    made.project(DETECTOR, "ObjectDetection")
    made.tags(1, 2)
    made.iteration(1, 2)
    made.iteration(1, 2)
    box, other = ("1", 0.1, 0.1, 0.2, 0.2), ("2", 0.5, 0.5, 0.3, 0.3)
    made.image(1, {1: ([1], [box]), 2: ([2], [other]), 3: ([1, 2], [box, other])})
    project, found = made.read()
    row = found[1].row
    spans = [(int(one.tag[-12:]), one.since, one.until) for one in row.regions]
    assert spans == [(1, 1, 2), (2, 2, None), (1, 3, None)]
    shown = {one["regionId"] for one in found[1].shape["regions"]}
    assert shown == {one.id for one in row.regions if one.until is None}
    assert len({one.id for one in row.regions}) == 3
    assert links(found[1]) == [(1, 1, 2), (2, 2, None), (1, 3, None)]
    assert project.head.counts.regions == 3


def test_what_a_detection_project_here_can_not_hold_is_left_out_and_noted(made: Made) -> None:
    made.project(DETECTOR, "ObjectDetection")
    made.tags(1, 2)
    fits, outside, empty = ("1", 0.1, 0.1, 0.2, 0.2), ("2", 0.9, 0.9, 0.5, 0.5), ("1", 0.1, 0.1, 0.0, 0.2)
    made.image(1, {1: ([1, 2], [fits, outside, empty])})
    project, found = made.read()
    assert links(found[1]) == [(1, 1, None)]
    assert len(found[1].row.regions) == len(found[1].shape["regions"]) == 1
    assert project.notes == [
        "2 boxes lie outside their picture, or have no size, and were left out",
        "1 times an image carried a tag without a box; a detection project here has none",
    ]


@pytest.mark.parametrize(("kind", "tags"), [("Multilabel", [1, 2]), ("Multiclass", [1])])
def test_the_same_picture_twice_in_a_workspace_becomes_one(made: Made, kind: str, tags: list[int]) -> None:
    made.project(classificationType=kind)
    made.tags(1, 2)
    made.iteration(1, 2)
    none: list[Box] = []
    made.image(1, {2: ([1], none)}, sha256="a" * 64)
    made.image(2, {2: ([2], none)}, sha256="a" * 64)
    made.image(3, {1: ([2], none), 2: ([2], none)}, sha256="a" * 64)
    project, found = made.read()
    assert sorted(tag for tag, _, _ in links(found[1])) == tags
    assert 2 not in found
    assert (found[3].row.since, found[3].row.until) == (1, 2)  # the iteration keeps its own
    assert project.head.counts.images == 2
    assert project.notes[0].startswith("2 images of the workspace have the very bytes of another")


def test_a_tag_that_went_while_it_was_listed_goes_with_what_carries_it(made: Made) -> None:
    made.project()
    made.tags(1)
    made.image(1, {1: ([1, 9], [])})
    project, found = made.read()
    assert links(found[1]) == [(1, 1, None)]
    assert project.tag_rows().former == []


def test_a_tag_that_only_iterations_have_is_a_former_one(made: Made) -> None:
    made.project()
    made.tags(1)
    made.iteration(2, 1)
    made.image(1, {1: ([1, 2], []), 2: ([1], [])})
    project, _ = made.read()
    assert project.tag_rows().former == [uid("t", 2)]


def test_scores_stand_in_the_order_in_which_the_tags_were_measured(made: Made) -> None:
    made.project()
    made.tags(1, 2)
    id = made.iteration(2, 1)
    made.image(1, {1: ([1], []), 2: ([1], [])})
    told = {
        "id": uid("p", 1),
        "predictions": [{"probability": 0.75, "tagId": uid("t", 1)}, {"probability": 0.25, "tagId": uid("t", 2)}],
        "tags": [{"tagId": uid("t", 1), "created": WHEN}],
    }
    made.work.put("INSERT INTO scores VALUES (?, 0, ?, ?)", id, told["id"], packed(told))
    made.work.put("INSERT INTO scores VALUES (?, 1, ?, ?)", id, uid("p", 7), packed({**told, "id": uid("p", 7)}))
    project, found = made.read()
    (learned,) = project.iterations()
    assert learned.row is not None
    assert {tag.name: tag.position for tag in learned.row.tags} == {"tag 2": 0, "tag 1": 1}
    (page,) = learned.scores()
    assert [row.image for row in page.scored] == [found[1].row.seq, None]
    assert np.frombuffer(base64.b64decode(page.scored[0].scores), "<f4").tolist() == [0.25, 0.75]
    assert np.frombuffer(base64.b64decode(page.scored[0].truth), np.uint8).tolist() == [0, 1]
    assert learned.row.performance is not None
    assert learned.row.performance["precision"] == 0.5


def test_an_iteration_that_was_never_trained_is_shown_and_not_restored(made: Made) -> None:
    made.project()
    made.iteration(status="Failed")
    project, _ = made.read()
    (learned,) = project.iterations()
    assert (learned.row, learned.performance, project.extra().iterations_made) == (None, None, 1)


def test_a_domain_that_is_not_here_becomes_the_general_one_of_its_kind(made: Made) -> None:
    made.project("99999999-9999-4999-8999-999999999999", "ObjectDetection")
    project, _ = made.read()
    domain = DOMAINS[project.head.domain_id]
    assert (domain.name, domain.type, project.detection) == ("General", "ObjectDetection", True)


def test_addresses_that_hold_a_signature_do_not_leave(made: Made) -> None:
    made.project()
    project, _ = made.read()
    assert "secret" not in json.dumps(project.shape)


def test_numbers_are_those_of_the_names(tmp_path: Path) -> None:
    """So that the next training's name is free."""

    class Asked:
        def ask(self, path: str, *_: Any) -> Any:
            names = ["Iteration 2", "before Easter", "Iteration 7", "Iteration 3"]
            return [
                {"id": uid("i", n), "name": name, "status": "Completed", "created": f"2024-01-0{n + 1}T00:00:00Z"}
                | {"lastModified": WHEN}
                for n, name in enumerate(names)
            ]

    work = Work(tmp_path / "work", {"endpoint": "https://x", "wanted": "[]"})
    crawl._iterations(crawl.Copy(Asked(), work, None), P)  # type: ignore[arg-type]
    found = [row[0] for row in work.rows("SELECT number FROM iterations ORDER BY revision")]
    work.close()
    assert found == [2, 3, 7, 8]


@pytest.mark.parametrize(
    ("said", "means"), [(1.0000001, 1.0), (-1e-7, 0.0), (0.25, 0.25), ("NaN", None), (float("nan"), None), (None, None)]
)
def test_figures_are_read_as_the_original_rounds_them(said: Any, means: float | None) -> None:
    assert answers.one(answers.Figures, {"precision": said}).precision == means


def test_a_figure_that_is_none_is_refused() -> None:
    with pytest.raises(answers.Foreign, match="precision"):
        answers.one(answers.Figures, {"precision": 1.5})
