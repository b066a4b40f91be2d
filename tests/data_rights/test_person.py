"""A person's request: what concerns one person is found, restricted and erased, wherever it is."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import func, select

from ownvision.data_rights import erasure, person
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.errors import OwnVisionError
from ownvision.limits import Tier
from ownvision.services import accounts, images, intake, predictions, projects, proposals, suggestions
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.store.tables import (
    Image,
    Iteration,
    IterationTag,
    LegalHold,
    Prediction,
    Project,
    Receipt,
    ScoredImage,
    Suggestion,
)
from tests.services import trained as t

pytestmark = pytest.mark.slow
NOBODY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Components]:
    components = t.open_house(tmp_path / "data")
    yield components
    components.database.close()


@pytest.fixture
def project(house: Components) -> Project:
    return t.make_project(house, "Visitors")


def portrait(seed: int) -> Pillow.Image:
    """A picture with some structure of its own."""
    rough = np.random.default_rng(seed).integers(0, 256, (12 + 9 * seed, 12 + 9 * seed), np.uint8)
    noise = Pillow.fromarray(rough).resize((192, 192), Pillow.Resampling.BICUBIC)
    shade = Pillow.linear_gradient("L").resize((192, 192)).rotate(37 * seed)
    return Pillow.merge("RGB", (noise, shade, Pillow.blend(noise, shade, 0.1 * seed)))


def encoded(picture: Pillow.Image, format: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def add(house: Components, project: Project, name: str, data: bytes, metadata: dict[str, str] | None = None) -> str:
    (added,) = intake.add_images(
        house, project.account_id, project.id, None, [Picture(name, lambda: data, file_name=name)], metadata=metadata
    )
    assert added.view is not None
    return added.view.image.id


def ids(found: list[person.Found]) -> list[str]:
    return [one.row.id for one in found]


def find(house: Components, project: Project, **search: object) -> list[person.Found]:
    return person.find(house, project.account_id, person.Search(**search))  # type: ignore[arg-type]


_CASES: list[tuple[dict[str, object], list[str]]] = [
    ({"file_name": "anna"}, ["Anna Müller 1.png", "anna_2.png"]),
    ({"file_name": "ANNA*.png"}, ["Anna Müller 1.png", "anna_2.png"]),
    ({"file_name": "Anna M?ller*"}, ["Anna Müller 1.png"]),
    ({"file_name": "a_2"}, ["anna_2.png"]),
    ({"file_name": "1_2"}, []),  # an underscore is no wildcard
    ({"file_name": "100%"}, ["100% Bob.png"]),
    ({"metadata": {"visitor": "Anna"}}, ["door.png"]),
    ({"metadata": {"visitor": "Ann*"}}, ["door.png"]),
    ({"metadata": {"visitor": "nn"}}, []),
    ({"metadata": {"who": "Anna"}}, []),
    ({"file_name": "anna_", "metadata": {"visitor": "Anna"}}, ["anna_2.png", "door.png"]),
    ({"sha256": hashlib.sha256(encoded(portrait(1))).hexdigest().upper()}, ["Anna Müller 1.png"]),
]


def test_names_metadata_and_bytes_are_found(house: Components, project: Project) -> None:
    other = t.make_project(house, "Door")
    add(house, project, "Anna Müller 1.png", encoded(portrait(1)))
    add(house, project, "anna_2.png", encoded(portrait(2)))
    add(house, other, "100% Bob.png", encoded(portrait(3)), {"visitor": "Bob"})
    add(house, other, "door.png", encoded(portrait(4)), {"visitor": "Anna"})
    for search, names in _CASES:
        found = find(house, project, **search)
        assert sorted(one.row.file_name or "" for one in found if isinstance(one.row, Image)) == names, search


def test_what_looks_like_a_picture_is_found_most_alike_first(house: Components, project: Project) -> None:
    boxes = t.make_project(house, "Door", domain_id=t.DETECTION)
    theirs = portrait(1)
    exact = add(house, project, "1.png", encoded(theirs))
    copied = add(house, boxes, "2.jpg", encoded(theirs.resize((150, 150)), "JPEG", quality=70))
    others = [add(house, project, f"{seed}.png", encoded(portrait(seed))) for seed in range(2, 7)]
    t.work(house)  # features of the classifier's images are kept; those of the detector's are not
    found = find(house, project, picture=encoded(theirs), like=0.97)
    assert ids(found) == [exact, copied]
    assert [one.by for one in found] == [["bytes", "likeness"], ["likeness"]]
    assert found[0].likeness == pytest.approx(1.0, abs=1e-3)
    assert len(find(house, project, picture=encoded(theirs), like=-1, take=4)) == 4
    assert set(ids(find(house, project, picture=encoded(theirs), like=-1))) == {exact, copied, *others}


def test_only_the_projects_that_were_named_and_only_the_accounts_own_are_searched(
    house: Components, project: Project
) -> None:
    other = t.make_project(house, "Door")
    data = encoded(portrait(1))
    here, there = add(house, project, "a.png", data), add(house, other, "a.png", data)
    assert set(ids(find(house, project, picture=data))) == {here, there}
    assert ids(find(house, project, file_name="a.png", project_ids=[other.id])) == [there]
    with house.database.write() as session:
        stranger = accounts.create(session, house.keys, user_name="x", email="x@localhost", tier="Unlimited")
    assert person.find(house, stranger.id, person.Search(picture=data, file_name="a")) == []
    with pytest.raises(OwnVisionError, match=other.id):
        person.find(house, stranger.id, person.Search(file_name="a", project_ids=[other.id]))


@pytest.mark.parametrize("search", [{}, {"picture": b"no picture"}, {"picture": b""}])
def test_a_search_for_nothing_or_by_no_picture_is_refused(
    house: Components, project: Project, search: dict[str, object]
) -> None:
    with pytest.raises(OwnVisionError):
        find(house, project, **search)


def trained(house: Components, project: Project) -> Iteration:
    started = t.start(house, project)
    t.work(house)
    with house.database.read() as session:
        iteration = session.get_one(Iteration, started.id)
    assert iteration.status == "Completed", iteration.error
    return iteration


def predicted(house: Components, project: Project, iteration: Iteration, data: bytes) -> str:
    with house.database.read() as session:
        tags = list(session.scalars(select(IterationTag).where(IterationTag.iteration_id == iteration.id)))
    said, info = predictions.predict(house, iteration, tags, data)
    id = "99999999-9999-4999-8999-999999999999"
    predictions.store(house, project.account_id, project, iteration, data, info, said, id, None)
    return id


def scored(house: Components, iteration: Iteration) -> set[str | None]:
    with house.database.read() as session:
        return set(session.scalars(select(ScoredImage.image_id).where(ScoredImage.iteration_id == iteration.id)))


def test_one_receipt_erases_what_was_found_everywhere_and_names_the_models(house: Components, project: Project) -> None:
    t.fill(house, project, {"red": 6, "blue": 6})
    data = t.coloured(0, 0)
    iteration = trained(house, project)
    second = t.make_project(house, "Door")
    elsewhere = add(house, second, "theirs.png", data)
    prediction = predicted(house, project, iteration, data)
    with house.database.write() as session:  # of the workspace it is no more, the iteration still has it
        (mine,) = session.scalars(
            select(Image.id).where(Image.project_id == project.id, Image.sha256 == hashlib.sha256(data).hexdigest())
        )
        images.delete_images(
            session, projects.lock(session, project.account_id, project.id), [mine], all_iterations=False
        )
    found = find(house, project, picture=data, like=0.9999)
    assert {(one.kind, one.row.id, one.workspace, len(one.iterations)) for one in found} == {
        ("image", mine, False, 1),
        ("image", elsewhere, True, 0),
        ("prediction", prediction, False, 1),
    }
    who = Who(project.account_id, OPERATOR)
    with house.database.read() as session:
        told = person.learned(session, project.account_id, [mine, elsewhere])
    assert [(one["iterationId"], one["images"], one["name"]) for one in told] == [(iteration.id, 1, "Iteration 1")]
    with house.database.write() as session:
        receipt = person.erase(session, who, [mine, elsewhere], [prediction], confirmed=3)
    erasure.after_commit(house, receipt)
    assert find(house, project, picture=data, like=0.9999) == []
    assert [one["iterationId"] for one in receipt.learned] == [iteration.id]
    assert receipt.erased["images"]["count"] == 2
    assert receipt.erased["predictions"]["count"] == 1
    assert {kind: sorted(of) for kind, of in receipt.subjects.items()} == {
        "images": sorted([mine, elsewhere]),
        "predictions": [prediction],
    }
    assert mine not in scored(house, iteration)


def test_what_was_not_confirmed_or_is_not_there_or_is_held_erases_nothing(house: Components, project: Project) -> None:
    kept = [add(house, project, f"{seed}.png", encoded(portrait(seed))) for seed in range(2)]
    who = Who(project.account_id, OPERATOR)

    def refused(code: str, chosen: list[str], stored: list[str], confirmed: int, as_who: Who = who) -> None:
        with pytest.raises(OwnVisionError) as error, house.database.write() as session:
            person.erase(session, as_who, chosen, stored, confirmed=confirmed)
        assert error.value.code == code

    refused("BadRequestInvalid", kept, [], 1)
    refused("BadRequestInvalid", [], [], 0)
    refused("BadRequestInvalidIds", [*kept, NOBODY], [], 3)
    refused("BadRequestInvalidIds", kept, [NOBODY], 3)
    with house.database.write() as session:
        stranger = accounts.create(session, house.keys, user_name="x", email="x@localhost", tier="Unlimited")
    refused("BadRequestInvalidIds", kept, [], 2, Who(stranger.id, OPERATOR))
    with house.database.write() as session:
        session.add(LegalHold(account_id=project.account_id, project_id=project.id, reason="a court"))
    refused("BadRequestOperationNotSupported", kept, [], 2)
    with house.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 2
        assert session.scalars(select(Receipt)).all() == []


def test_a_restricted_image_is_kept_and_shown_but_neither_learned_from_nor_suggested_for(
    house: Components, project: Project
) -> None:
    t.fill(house, project, {"red": 7, "blue": 6})
    who = Who(project.account_id, OPERATOR)
    with house.database.read() as session:
        every = set(session.scalars(select(Image.id).where(Image.project_id == project.id)))
        theirs = session.scalars(select(Image.id).order_by(Image.seq)).first() or ""
    first = trained(house, project)
    assert scored(house, first) == every

    def restrict(restricted: bool, chosen: list[str]) -> int:
        with house.database.write() as session:
            return person.restrict(session, who, chosen, restricted=restricted)

    assert (restrict(True, [theirs]), restrict(True, [theirs])) == (1, 0)
    second = trained(house, project)  # not "nothing changed"
    assert scored(house, second) == every - {theirs}
    with house.database.read() as session:
        assert len(images.find(session, project, take=50)) == len(every)
    with pytest.raises(OwnVisionError, match="Nothing changed"):
        t.start(house, project)
    assert restrict(False, [theirs]) == 1
    assert scored(house, trained(house, project)) == every


def test_nothing_is_suggested_for_a_restricted_image(house: Components, project: Project) -> None:
    t.fill(house, project, {"red": 5, "blue": 5})
    iteration = trained(house, project)
    untagged = t.upload(house, project, [t.coloured(0, 90), t.coloured(1, 91)], [])
    suggest = (house, project.account_id, project.id, iteration.id, untagged)
    assert [one.image.id for one in suggestions.suggest(*suggest)] == untagged
    with house.database.write() as session:
        person.restrict(session, Who(project.account_id, OPERATOR), untagged[:1], restricted=True)
        assert session.scalar(select(func.count()).select_from(Suggestion)) == 1
    assert [one.image.id for one in suggestions.suggest(*suggest)] == untagged[1:]
    with house.database.read() as session:
        _, found = suggestions.query(session, project, iteration.id, {}, house.settings.limits)
    assert [one.image.id for one in found] == untagged[1:]


def test_no_region_is_proposed_for_a_restricted_image(house: Components) -> None:
    project = t.make_project(house, "Door", domain_id=t.DETECTION)
    image_id = add(house, project, "1.png", encoded(portrait(1)))
    with house.database.write() as session:
        person.restrict(session, Who(project.account_id, OPERATOR), [image_id], restricted=True)
    with pytest.raises(OwnVisionError, match="restricted"):
        proposals.propose(house, project.account_id, project.id, image_id)


def test_a_tag_whose_images_are_restricted_has_too_few_to_train_on(house: Components, project: Project) -> None:
    t.fill(house, project, {"red": 5, "blue": 5})
    least = house.settings.limits.classification_images_per_tag
    with house.database.write() as session:
        chosen = list(session.scalars(select(Image.id).order_by(Image.seq).limit(5 - least + 1)))
        person.restrict(session, Who(project.account_id, OPERATOR), chosen, restricted=True)
    with pytest.raises(OwnVisionError, match=f"'red' has {least - 1}"):
        t.start(house, project, tier=Tier())


def test_predictions_can_not_be_restricted_by_an_images_way(house: Components, project: Project) -> None:
    with pytest.raises(OwnVisionError, match="no image of this account"), house.database.write() as session:
        person.restrict(session, Who(project.account_id, OPERATOR), [NOBODY], restricted=True)
    with house.database.read() as session:
        assert session.scalars(select(Prediction)).all() == []
