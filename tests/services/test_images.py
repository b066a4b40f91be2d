"""Images of a workspace: taken in, found, tagged, deleted."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from ownvision.errors import OwnVisionError
from ownvision.limits import TIERS
from ownvision.services import images, intake, projects, regions, tags
from ownvision.services.components import Components
from ownvision.services.intake import Picture
from ownvision.services.regions import Box, RegionEntry
from ownvision.store.tables import Account, Blob, Project
from tests.services import trained as t
from tests.services.conftest import DETECTION, picture, png


def _tag(house: Components, project: Project, name: str, type: str = "Regular") -> str:
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        return tags.create(session, locked, name, None, type, house.settings.limits, TIERS["Unlimited"]).id


def _add(house: Components, project: Project, pictures: list[Picture], **fields: object) -> list[intake.Added]:
    return intake.add_images(house, project.account_id, project.id, None, pictures, **fields)  # type: ignore[arg-type]


def _ids(house: Components, project: Project, **query: object) -> list[str]:
    with house.database.read() as session:
        fresh = projects.get(session, project.account_id, project.id)
        return [view.image.file_name or "" for view in images.find(session, fresh, **query)]  # type: ignore[arg-type]


def _count(house: Components, project: Project, **query: object) -> int:
    with house.database.read() as session:
        fresh = projects.get(session, project.account_id, project.id)
        return images.count(session, fresh, **query)  # type: ignore[arg-type]


def test_uploaded_images_come_back_newest_first_with_their_bytes(
    house: Components, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    added = _add(house, project, [picture(1), picture(2), picture(3)])
    assert [one.status for one in added] == ["OK"] * 3
    assert _ids(house, project) == ["3.png", "2.png", "1.png"]
    assert _ids(house, project, newest=False, skip=1, take=1) == ["2.png"]
    view = added[0].view
    assert view is not None
    assert house.blobs.read(intake.ledger.image_prefix(project.id, view.image.id) + "original") == png(1)


def test_every_page_of_every_order_agrees_with_the_whole_list(
    house: Components, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    tag = _tag(house, project, "even")
    _add(house, project, [picture(n) for n in range(0, 20, 2)], tag_ids=[tag])
    _add(house, project, [picture(n) for n in range(1, 20, 2)])
    for query in ({}, {"tagging_status": "Tagged"}, {"tagging_status": "Untagged"}, {"tag_ids": [tag]}):
        for newest in (True, False):
            whole = _ids(house, project, newest=newest, take=256, **query)
            assert len(whole) == _count(house, project, **query)
            for take in (1, 3, 7):
                paged = [
                    name
                    for skip in range(0, len(whole) + take, take)
                    for name in _ids(house, project, newest=newest, take=take, skip=skip, **query)
                ]
                assert paged == whole, (query, newest, take)


def test_the_same_bytes_are_kept_once(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    first = _add(house, project, [picture(1), picture(1)])
    again = _add(house, project, [picture(1)])
    assert [one.status for one in first + again] == ["OK", "OKDuplicate", "OKDuplicate"]
    assert {one.view.image.id for one in first + again if one.view} == {first[0].view.image.id if first[0].view else ""}
    assert _count(house, project) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"not an image", "ErrorImageFormat"),
        (b"", "ErrorImageFormat"),
        (png(1)[:-40], "ErrorImageFormat"),
        (png(1, width=600, height=8), "ErrorImageDimensions"),
        (png(1) + b"\0" * 6_000_000, "ErrorImageSize"),
    ],
    ids=["text", "empty", "truncated", "too long and thin", "too many bytes"],
)
def test_what_is_no_usable_image_is_refused_and_leaves_nothing(
    house: Components, make_project: Callable[..., Project], data: bytes, status: str
) -> None:
    project = make_project()
    added = _add(house, project, [Picture("bad", lambda: data), picture(2)])
    assert [one.status for one in added] == [status, "OK"]
    assert _count(house, project) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"pictures": []}, "BadRequestImageBatch"),
        ({"pictures": [picture(1)] * 65}, "BadRequestExceededBatchSize"),
        ({"pictures": [picture(1)], "tag_ids": ["x"] * 21}, "BadRequestExceededBatchSize"),
        ({"pictures": [picture(1)], "tag_ids": ["x"]}, "BadRequestImageTags"),
        ({"pictures": [picture(1)], "metadata": {"": "v"}}, "BadRequestImageMetadataKey"),
        ({"pictures": [picture(1)], "metadata": {"k": "v" * 257}}, "BadRequestImageMetadataValue"),
        ({"pictures": [picture(1, boxes=[Box("x", 0, 0, 1, 1)])]}, "BadRequestImageRegions"),
    ],
)
def test_a_bad_batch_changes_nothing(
    house: Components, make_project: Callable[..., Project], fields: dict[str, object], code: str
) -> None:
    project = make_project()
    with pytest.raises(OwnVisionError) as refused:
        _add(house, project, **fields)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert _count(house, project) == 0


def test_filters_read_metadata(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    _add(house, project, [picture(1)], metadata={"colour": "red", "size": "s"})
    _add(house, project, [picture(2)], metadata={"colour": "it's blue"})
    _add(house, project, [picture(3)])
    for text, expected in [
        ("metadata=colour eq 'red'", ["1.png"]),
        ("colour ne 'red'", ["3.png", "2.png"]),
        ("metadata=colour eq 'it''s blue' or size eq 's'", ["2.png", "1.png"]),
        ("metadata=(colour eq 'red' or colour ne 'red') and size eq 's'", ["1.png"]),
    ]:
        assert _ids(house, project, filter=text) == expected, text
        assert _count(house, project, filter=text) == len(expected), text
    for unreadable in ("colour eq", "colour is 'red'", "(colour eq 'red'", "colour eq 'red", "colour eq 'red' size"):
        with pytest.raises(OwnVisionError, match="filter"):
            _ids(house, project, filter=unreadable)


def test_counts_follow_tags(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    oak, elm = _tag(house, project, "oak"), _tag(house, project, "elm")
    added = _add(house, project, [picture(n) for n in range(4)], tag_ids=[oak])
    ids = [one.view.image.id for one in added if one.view]
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        created, duplicated, _ = images.add_tags(session, locked, [(ids[0], elm), (ids[0], oak)], house.settings.limits)
        images.remove_tags(session, locked, [ids[1]], [oak])
    assert (created, duplicated) == ([(ids[0], elm)], [(ids[0], oak)])
    assert _count(house, project, tag_ids=[oak]) == 3
    assert _count(house, project, tag_ids=[oak, elm]) == 3
    assert _count(house, project, tagging_status="Tagged") == 3
    assert _ids(house, project, tagging_status="Untagged") == ["1.png"]
    with house.database.write() as session:
        tags.delete(session, projects.lock(session, project.account_id, project.id), oak)
    assert _count(house, project, tagging_status="Tagged") == 1


def test_a_negative_tag_stands_alone(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    oak, negative = _tag(house, project, "oak"), _tag(house, project, "none", "Negative")
    assert [one.status for one in _add(house, project, [picture(1)], tag_ids=[oak, negative])] == [
        "ErrorNegativeAndRegularTagOnSameImage"
    ]
    (added,) = _add(house, project, [picture(2)], tag_ids=[oak])
    assert added.view is not None
    entry = (added.view.image.id, negative)
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        with pytest.raises(OwnVisionError) as refused:
            images.add_tags(session, locked, [entry], house.settings.limits)
        session.rollback()
    assert refused.value.code == "BadRequestNegativeAndRegularTagOnSameImage"
    assert _count(house, project, tag_ids=[negative]) == 0


def test_deleting_takes_rows_and_files_when_nothing_covers_them(
    house: Components, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    added = _add(house, project, [picture(1), picture(2)])
    ids = [one.view.image.id for one in added if one.view]
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        images.delete_images(session, locked, ids[:1], all_iterations=False)
    intake.ledger.sweep(house.database, house.blobs)
    assert _ids(house, project) == ["2.png"]
    assert [key for key, _ in house.blobs.list(f"{project.id}/images/")] == [
        intake.ledger.image_prefix(project.id, ids[1]) + "original"
    ]
    with pytest.raises(OwnVisionError) as refused, house.database.write() as session:
        images.delete_images(session, projects.lock(session, project.account_id, project.id), ids, all_iterations=False)
    assert refused.value.code == "BadRequestInvalidIds"
    assert _count(house, project) == 1


@pytest.mark.parametrize(
    "box",
    [
        (float("nan"), 0, 0.5, 0.5),
        (0, float("inf"), 0.5, 0.5),
        (-0.01, 0, 0.5, 0.5),
        (0.6, 0, 0.5, 0.5),
        (0, 0, 0, 0.5),
        (0, 0, 0.5, -0.1),
    ],
)
def test_a_box_outside_the_picture_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(OwnVisionError) as refused:
        regions.clipped(Box("tag", *box))
    assert refused.value.code == "BadRequestImageRegions"


def test_rounding_over_the_edge_is_clipped() -> None:
    assert regions.clipped(Box("tag", -0.00005, 0, 1.0001, 0.5)) == Box("tag", 0.0, 0, 1.0, 0.5)


def test_a_region_brings_its_tag_and_takes_it_along(
    house: Components, make_project: Callable[..., Project], account: Account
) -> None:
    project = make_project("Tools", DETECTION)
    fork = _tag(house, project, "fork")
    (added,) = _add(house, project, [picture(1, boxes=[Box(fork, 0.1, 0.1, 0.2, 0.2)])])
    assert added.view is not None
    image_id = added.view.image.id
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        entries = [
            RegionEntry(image_id, Box(fork, 0.5, 0.5, 0.2, 0.2)),
            RegionEntry(image_id, Box(fork, 0.1, 0.1, 0.2, 0.2)),
        ]
        created, duplicated, exceeded = regions.add(session, locked, entries, house.settings.limits)
    assert [len(part) for part in (created, duplicated, exceeded)] == [1, 1, 0]
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        (view,) = images.by_ids(session, locked, [image_id])
        assert [name for _, name, _ in view.tags] == ["fork"]
        regions.remove(session, locked, [region.id for region in view.regions])
        (view,) = images.by_ids(session, locked, [image_id])
        assert (view.tags, view.regions, view.image.tagged) == ([], [], False)
    assert _count(house, project, tag_ids=[fork]) == 0


def test_another_accounts_project_is_not_found(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    with pytest.raises(OwnVisionError) as refused, house.database.read() as session:
        projects.get(session, "someone else", project.id)
    assert refused.value.code == "NotFoundProject"


def test_a_taken_project_name_gets_a_number(make_project: Callable[..., Project]) -> None:
    assert [make_project().name for _ in range(3)] == ["Trees", "Trees (1)", "Trees (2)"]


@pytest.mark.parametrize(
    "box", [(1.00005, 0.1, 0.00004, 0.1), (-0.00009, 0.1, 0.00003, 0.1), (0.1, 1.00005, 0.1, 0.00001)]
)
def test_a_box_of_which_nothing_is_inside_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(OwnVisionError) as refused:
        regions.clipped(Box("tag", *box))
    assert refused.value.code == "BadRequestImageRegions"


@pytest.mark.parametrize(
    "text",
    ["(" * 2_000, " and ".join(["a eq 'b'"] * 1_200), " or ".join(["a eq 'b'"] * 60), "(a eq 'b'" * 40],
)
def test_a_filter_beyond_measure_is_refused(house: Components, make_project: Callable[..., Project], text: str) -> None:
    project = make_project()
    with pytest.raises(OwnVisionError) as refused:
        _ids(house, project, filter=text)
    assert refused.value.code == "BadRequest"


def test_limits_that_are_set_narrower_hold(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    house.settings.limits.image_side = 31
    assert [one.status for one in _add(house, project, [picture(1)])] == ["ErrorImageDimensions"]
    house.settings.limits.image_side = 32
    house.settings.limits.image_aspect = 1.5
    data = png(2, width=32, height=16)
    assert [one.status for one in _add(house, project, [Picture("wide", lambda: data)])] == ["ErrorImageDimensions"]


def test_an_image_takes_no_more_tags_by_regions_than_it_may(
    house: Components, make_project: Callable[..., Project]
) -> None:
    project = make_project("Tools", DETECTION)
    house.settings.limits.tags_per_image = 2
    tag_ids = [_tag(house, project, name) for name in ("a", "b", "c")]
    (added,) = _add(house, project, [picture(1)])
    assert added.view is not None
    entries = [RegionEntry(added.view.image.id, Box(tag_id, 0.1, 0.1, 0.2, 0.2)) for tag_id in tag_ids]
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        created, _, exceeded = regions.add(session, locked, entries, house.settings.limits)
    assert ([len(created), len(exceeded)], exceeded) == ([2, 1], entries[2:])


def test_a_project_deleted_during_an_upload_is_not_found_and_nothing_is_left(
    house: Components, make_project: Callable[..., Project]
) -> None:
    project = make_project()

    def delete_meanwhile() -> bytes:
        t.close(house, project)
        return png(1)

    with pytest.raises(OwnVisionError) as refused:
        _add(house, project, [Picture("1.png", delete_meanwhile)])
    assert refused.value.code == "NotFoundProject"
    while intake.ledger.sweep(house.database, house.blobs):
        pass
    assert [key for key, _ in house.blobs.list()] == []
    with house.database.read() as session:
        assert session.scalar(select(Blob.prefix).where(Blob.state == "pending")) is None


def test_the_quota_holds_for_two_uploads_at_once(
    house: Components, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIERS, "Unlimited", replace(TIERS["Unlimited"], images_per_project=1))
    project = make_project()

    def another_first() -> bytes:
        _add(house, project, [picture(2)])
        return png(1)

    # Both pass the check before storing; the second is refused when it is recorded.
    with pytest.raises(OwnVisionError) as refused:
        _add(house, project, [Picture("1.png", another_first)])
    assert refused.value.code == "BadRequestImageExceededCount"
    assert _count(house, project) == 1


def test_what_was_erased_is_journalled_once_it_is_gone(house: Components, make_project: Callable[..., Project]) -> None:
    project = make_project()
    added = _add(house, project, [picture(1), picture(2)])
    first, second = (one.view.image.id for one in added if one.view)
    with house.database.write() as session:
        locked = projects.lock(session, project.account_id, project.id)
        images.delete_images(session, locked, [first], all_iterations=False)
    assert list(house.keys.erased()) == []
    intake.ledger.sweep(house.database, house.blobs, erased=house.keys.journal)
    prefix = intake.ledger.image_prefix(project.id, first)
    assert list(house.keys.erased()) == [("image", prefix)]
    assert house.blobs.exists(intake.ledger.image_prefix(project.id, second) + "original")
