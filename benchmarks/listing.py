"""Reading a project of 100,000 images beside one of 1,000: pages, filters, counts, an old iteration, tags."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import insert

from benchmarks.results import Result, keep
from benchmarks.wire import Connection, request
from ownvision.client.local import Running, running_service
from ownvision.services import accounts, projects
from ownvision.services.components import Components, open_components
from ownvision.settings import Settings
from ownvision.store.tables import Image, ImageMetadata, ImageTag, Iteration, IterationTag, Project, Tag
from ownvision.store.tables.base import new_id

SMALL, LARGE = 1_000, 100_000
DOMAIN = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
ALLOWED_MS = 10.0
REPEATS = 9
TAKE = 50
UNTAGGED, RARE = 60, 60
PART = 10_000
TAGS = ("common", "tenth", "hundredth", "rare")


def run() -> bool:
    """Each call's median at both sizes; the difference must stay below 10 ms."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        components = open_components(Settings.model_validate({"data": data}))
        components.database.migrate()
        accounts.first_start(components)
        small, large = (_project(components, size) for size in (SMALL, LARGE))
        components.database.close()
        with running_service(data) as service:
            results = list(_measured(service, small, large))
    return keep("listing", results)


def _project(components: Components, size: int) -> dict[str, Any]:
    """A project of that many images, written straight through the tables; its ids and counts."""
    with components.database.write() as session:
        project = projects.create(
            session,
            components.keys,
            accounts.all(session)[0],
            name=f"{size} images",
            description=None,
            domain_id=DOMAIN,
            classification_type="Multilabel",
            target_export_platforms=[],
            limits=components.settings.limits,
        )
        project_id = project.id
        tags = {name: new_id() for name in TAGS}
        session.add_all(Tag(id=id, project_id=project_id, name=name) for name, id in tags.items())
    counts = dict.fromkeys(TAGS, 0)
    old = {"tagged": 0, "images": 0, **counts}
    for start in range(0, size, PART):
        with components.database.write() as session:
            _images(session, project_id, tags, range(start, min(start + PART, size)), size, counts, old)
    with components.database.write() as session:
        project = session.get_one(Project, project_id)
        project.revision, project.image_count, project.tagged_count = 2, size, size - UNTAGGED
        for name, id in tags.items():
            session.get_one(Tag, id).image_count = counts[name]
        iteration = Iteration(
            project_id=project_id,
            number=1,
            name="Iteration 1",
            status="Completed",
            revision=1,
            domain_id=DOMAIN,
            classification_type="Multilabel",
            pipeline="benchmark",
            image_count=old["images"],
            tagged_count=old["tagged"],
        )
        session.add(iteration)
        session.flush()
        session.add_all(
            IterationTag(
                iteration_id=iteration.id, tag_id=id, position=place, name=name, type="Regular", image_count=old[name]
            )
            for place, (name, id) in enumerate(tags.items())
        )
        return {"id": project_id, "size": size, "tags": tags, "counts": counts, "iteration": iteration.id, "old": old}


def _images(
    session: Any,
    project_id: str,
    tags: dict[str, str],
    numbers: range,
    size: int,
    counts: dict[str, int],
    old: dict[str, int],
) -> None:
    """Images of a part: the last UNTAGGED without a tag; half of all since revision 1, half since 2."""
    first = (session.query(Image.seq).order_by(Image.seq.desc()).limit(1).scalar() or 0) + 1
    rows, links, pairs = [], [], []
    for place, number in enumerate(numbers):
        tagged, since = number < size - UNTAGGED, 1 + number % 2
        seq = first + place
        rows.append(
            {
                "seq": seq,
                "id": new_id(),
                "project_id": project_id,
                "sha256": f"{number:064x}",
                "width": 640,
                "height": 480,
                "size": 20_000,
                "format": "JPEG",
                "file_name": f"{number}.jpg",
                "tagged": tagged,
                "since": since,
                "until": None,
            }
        )
        pairs.append({"image_seq": seq, "project_id": project_id, "key": "camera", "value": f"camera {number % 100}"})
        carried = _carried(number, size) if tagged else ()
        links += [
            {"project_id": project_id, "image_seq": seq, "tag_id": tags[name], "since": since, "until": None}
            for name in carried
        ]
        for name in carried:
            counts[name] += 1
            old[name] += since == 1
        old["images"] += since == 1
        old["tagged"] += since == 1 and tagged
    session.execute(insert(Image), rows)
    session.execute(insert(ImageTag), links)
    session.execute(insert(ImageMetadata), pairs)


def _carried(number: int, size: int) -> Iterator[str]:
    yield "common"
    if number % 10 == 0:
        yield "tenth"
    if number % 100 == 1:
        yield "hundredth"
    if number % (size // RARE) == 0:
        yield "rare"


def _calls(project: dict[str, Any]) -> dict[str, str]:
    """Name of each call and its path, with the pages near the end of what it lists."""
    base = f"/customvision/v3.3/training/projects/{project['id']}"
    tags, counts, size = project["tags"], project["counts"], project["size"]
    three = ",".join(tags[name] for name in ("tenth", "hundredth", "rare"))
    where = quote("metadata=camera eq 'camera 7'")
    iteration = f"iterationId={project['iteration']}"
    listed = {
        "all": ("/images?", size),
        "tagged": ("/images/tagged?", size - UNTAGGED),
        "untagged, few": ("/images/untagged?", UNTAGGED),
        "common tag": (f"/images/tagged?tagIds={tags['common']}&", counts["common"]),
        "rare tag": (f"/images/tagged?tagIds={tags['rare']}&", counts["rare"]),
        "three tags": (f"/images/tagged?tagIds={three}&", counts["tenth"]),
        "$filter": (f"/images?$filter={where}&", size // 100),
        "old iteration, all": (f"/images?{iteration}&", project["old"]["images"]),
        "old iteration, tagged": (f"/images/tagged?{iteration}&", project["old"]["tagged"]),
        "old iteration, common tag": (
            f"/images/tagged?{iteration}&tagIds={tags['common']}&",
            project["old"]["common"],
        ),
    }
    calls = {}
    for name, (path, total) in listed.items():
        for label, skip in (("skip 0", 0), ("near the end", max(0, total - TAKE - 5))):
            calls[f"{name}, {label}"] = f"{base}{path}take={TAKE}&skip={skip}"
    counted = {
        "all": "/images/count",
        "tagged": "/images/tagged/count",
        "untagged": "/images/untagged/count",
        "common tag": f"/images/tagged/count?tagIds={tags['common']}",
        "rare tag": f"/images/tagged/count?tagIds={tags['rare']}",
        "three tags": f"/images/tagged/count?tagIds={three}",
        "$filter": f"/images/count?$filter={where}",
        "old iteration, all": f"/images/count?{iteration}",
        "old iteration, tagged": f"/images/tagged/count?{iteration}",
        "old iteration, common tag": f"/images/tagged/count?{iteration}&tagIds={tags['common']}",
    }
    calls |= {f"count, {name}": base + path for name, path in counted.items()}
    calls["GetTags"] = base + "/tags"
    calls["GetTags, old iteration"] = f"{base}/tags?{iteration}"
    return calls


def _measured(service: Running, small: dict[str, Any], large: dict[str, Any]) -> Iterator[Result]:
    connection = Connection(service.endpoint)
    fewer, more = _calls(small), _calls(large)
    for name in more:
        taken = {SMALL: [0.0] * 0, LARGE: [0.0] * 0}
        for _ in range(REPEATS):
            for size, path in ((SMALL, fewer[name]), (LARGE, more[name])):
                call = request("GET", path, {"Training-Key": service.training_key})
                started = time.perf_counter()
                status, body = connection.call(call)
                taken[size].append((time.perf_counter() - started) * 1000)
                assert status == 200, (name, body[:300])
        at_small, at_large = statistics.median(taken[SMALL]), statistics.median(taken[LARGE])
        yield Result(f"{name}: 100,000 images above 1,000 ({at_small:.1f} ms)", at_large - at_small, "ms", ALLOWED_MS)
    connection.close()
