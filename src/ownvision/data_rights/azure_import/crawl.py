"""Fetching a project: settings, iterations, tags, images, scores, predictions, then the bytes of them all.

Listings are read a page of 256 at a time, oldest first, iterations before the workspace: what is in several is seen in
the order in which it became. Each page is kept with how far the listing is, so that a copy that was broken off goes on
there; pictures that are there are not fetched again.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from ownvision.data_rights.azure_import import answers
from ownvision.data_rights.azure_import.answers import Shape
from ownvision.data_rights.azure_import.client import CONCURRENT, Lapsed, NotThere, Resource, Unanswered, Unusable
from ownvision.data_rights.azure_import.work import Fetched, Work, packed
from ownvision.learning import pixels

PAGE = 256
PREDICTIONS = 100  # of a page; how many the original gives at most is not known
IDS = 64  # in one address, whose length is limited
PICTURE_BYTES, ARCHIVE_BYTES = 10 * 2**20, 512 * 2**20
LEAST_FREE = 256 * 2**20
MOST = 1_000_000  # images, scored images, predictions, of one project
MANY = 10_000  # projects, tags, iterations: lists that come whole
COMPLETED, DONE = "Completed", "done"
COUNTED = "SELECT COUNT(*) FROM predictions WHERE project = ?"
_NAMED = re.compile(r"Iteration ([1-9]\d{0,8})")
M = TypeVar("M", bound=BaseModel)


class Watch(Protocol):
    """Who is told how far it is."""

    def begin(self, what: str, total: int | None) -> None:
        """Something begins, with so many steps where that is known."""

    def advance(self, steps: int = 1) -> None:
        """So many steps of it are done."""


@dataclass(frozen=True)
class Copy:
    """A copy under way: where from, what is there, who is told."""

    resource: Resource
    work: Work
    watch: Watch

    def ask(self, path: str, parameters: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None) -> Any:
        """What an operation answers that must be there.

        Raises:
            Unanswered: It does not.
        """
        try:
            return self.resource.ask(path, parameters, body)
        except NotThere as error:
            raise Unanswered(f"The resource does not give {path.rpartition('/')[2]}. {error}".strip()) from None

    def count(self, path: str, parameters: Mapping[str, Any]) -> int:
        """What an operation counts."""
        return answers.count(self.ask(path, parameters))


def choose(copy: Copy, wanted: Sequence[str]) -> list[str]:
    """The ids of the projects that are to be copied: by id or name, all where none is named; oldest first.

    Raises:
        Unanswered: One is not there, or its name is that of several.
    """
    known = [str(row[0]) for row in copy.work.rows("SELECT id FROM projects ORDER BY place")]
    if known:
        return known
    there = answers.many(answers.Project, copy.ask("/projects"), MANY)
    there.sort(key=lambda found: (found[0].created, found[0].id))
    chosen = there
    if wanted:
        named = {want: [one for one in there if want.lower() == one[0].id or want == one[0].name] for want in wanted}
        for want, found in named.items():
            if len(found) != 1:
                names = ", ".join(repr(one.name) for one, _ in there[:50]) or "none"
                which = "There is no project" if not found else "There are several projects of the name"
                raise Unanswered(f"{which} {want!r}; give an id. The resource has: {names}.")
        ids = {found[0][0].id for found in named.values()}
        chosen = [one for one in there if one[0].id in ids]
    if not chosen:
        raise Unanswered("The resource holds no project.")
    domains = {row.id: row.type for row, _ in answers.many(answers.Domain, copy.ask("/domains"), MANY)}
    with copy.work.together():
        copy.work.put("INSERT OR REPLACE INTO facts VALUES ('domains', ?)", json.dumps(domains))
        copy.work.many(
            "INSERT INTO projects VALUES (?, ?, ?)",
            ((row.id, place, json.dumps(shape)) for place, (row, shape) in enumerate(chosen)),
        )
    return [row.id for row, _ in chosen]


def fetch(copy: Copy, project: str) -> None:
    """Fetch a project, or what is still missing of it.

    Raises:
        Unanswered: The resource can't be read any further now.
        Foreign: It gives what no Custom Vision resource gives.
    """
    list_project(copy, project)
    _predictions(copy, project)
    _pictures(copy, project)
    _archives(copy, project)


def list_project(copy: Copy, project: str) -> None:
    """Fetch all of a project but bytes and predictions."""
    work = copy.work
    if work.state(project, "listed") == DONE:
        return
    name = _settings(copy, project)
    copy.watch.begin(f"{name}: iterations", None)
    if work.state(project, "iterations") != DONE:
        _iterations(copy, project)
    trained = list(
        work.rows(
            "SELECT id, revision FROM iterations WHERE project = ? AND revision IS NOT NULL ORDER BY revision", project
        )
    )
    for id, revision in trained:
        _iteration(copy, project, id)
        _images(copy, project, id, revision, f"{name}: images of iteration {revision} of {len(trained)}")
        _scores(copy, project, id)
    _images(copy, project, "", len(trained) + 1, f"{name}: images")
    ordered = "SELECT row, ROW_NUMBER() OVER (ORDER BY created, row) AS place FROM images WHERE project = ?1"
    with work.together():
        work.put(f"UPDATE images SET seq = o.place FROM ({ordered}) AS o WHERE images.row = o.row", project)
        work.reach(project, "listed", DONE)


def _settings(copy: Copy, project: str) -> str:
    shape = copy.ask(f"/projects/{project}")
    row = answers.one(answers.Project, shape)
    if row.id != project:
        raise answers.Foreign("Project: another one than was asked for")
    copy.work.put("UPDATE projects SET shape = ? WHERE id = ?", json.dumps(shape), project)
    tags = answers.many(answers.Tag, copy.ask(f"/projects/{project}/tags"), MANY)
    _keep_tags(copy.work, project, "", tags)
    return row.name


def _keep_tags(work: Work, project: str, iteration: str, tags: Sequence[tuple[answers.Tag, Shape]]) -> None:
    with work.together():
        work.put("DELETE FROM tags WHERE project = ? AND iteration = ?", project, iteration)
        work.many(
            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?, ?)",
            ((project, iteration, place, row.id, json.dumps(shape)) for place, (row, shape) in enumerate(tags)),
        )


def _iterations(copy: Copy, project: str) -> None:
    """All iterations, numbered as their names say where they say it, so that the next one's name is free."""
    found = answers.many(answers.Iteration, copy.ask(f"/projects/{project}/iterations"), MANY)
    found = [one for one in found if one[0].status != "New"]  # the workspace, as old versions show it
    found.sort(key=lambda one: (one[0].created, one[0].id))
    number, revision, rows = 0, 0, []
    for row, shape in found:
        said = _NAMED.fullmatch(row.name)
        number = max(number + 1, int(said[1]) if said else 0)
        trained = row.status == COMPLETED
        revision += trained
        rows.append((project, row.id, number, revision if trained else None, json.dumps(shape), None))
    with copy.work.together():
        copy.work.many("INSERT OR REPLACE INTO iterations VALUES (?, ?, ?, ?, ?, ?)", rows)
        copy.work.reach(project, "iterations", DONE)


def _iteration(copy: Copy, project: str, id: str) -> None:
    """Tags, performance and exports of an iteration."""
    step, at = f"iteration:{id}", f"/projects/{project}/iterations/{id}"
    if copy.work.state(project, step) == DONE:
        return
    _keep_tags(
        copy.work,
        project,
        id,
        answers.many(answers.Tag, copy.ask(f"/projects/{project}/tags", {"iterationId": id}), MANY),
    )
    try:
        performance = copy.resource.ask(f"{at}/performance")
        answers.one(answers.Performance, performance)
    except NotThere:
        performance = None
    try:
        exports = answers.many(answers.Export, copy.resource.ask(f"{at}/export"), MANY)
    except NotThere:
        exports = []
    with copy.work.together():
        copy.work.put("UPDATE iterations SET performance = ? WHERE id = ?", json.dumps(performance), id)
        copy.work.many(
            "INSERT OR IGNORE INTO exports (iteration, place, shape) VALUES (?, ?, ?)",
            ((id, place, json.dumps(shape)) for place, (_, shape) in enumerate(exports)),
        )
        copy.work.reach(project, step, DONE)


# --- listings


def counted(copy: Copy, project: str, iteration: str) -> tuple[int, int]:
    """How many tagged and untagged images the resource counts, of the workspace ("") or an iteration."""
    at, of = f"/projects/{project}/images", {"iterationId": iteration} if iteration else {}
    return copy.count(f"{at}/tagged/count", of), copy.count(f"{at}/untagged/count", of)


def _images(copy: Copy, project: str, iteration: str, revision: int, what: str) -> None:
    if copy.work.state(project, f"images:{iteration}") == DONE:
        return
    tagged, untagged = counted(copy, project, iteration)
    copy.watch.begin(what, tagged + untagged)
    of = {"iterationId": iteration} if iteration else {}
    at = f"/projects/{project}/images"

    def keep(page: Sequence[tuple[answers.Image, Shape]]) -> int:
        return sum(_keep_image(copy.work, project, iteration, revision, row, shape) for row, shape in page)

    listings = [("", at, {**of, "taggingStatus": "All"}, tagged + untagged)]
    if not _lists_all(copy, at):
        listings = [(kind, f"{at}/{kind}", of, n) for kind, n in (("tagged", tagged), ("untagged", untagged))]
    for kind, path, parameters, expected in listings:
        _pages(copy, project, f"images:{iteration}:{kind}", path, parameters, answers.Image, expected, keep)
    copy.work.reach(project, f"images:{iteration}", DONE)


def _lists_all(copy: Copy, path: str) -> bool:
    """Whether the resource has GetImages, or only the two listings that older ones have."""
    known = copy.work.one("SELECT value FROM facts WHERE name = 'GetImages'")
    if known is None:
        try:
            copy.resource.ask(path, {"taggingStatus": "All", "take": 1})
            known = "yes"
        except NotThere:
            known = "no"
        copy.work.put("INSERT OR REPLACE INTO facts VALUES ('GetImages', ?)", known)
    return bool(known == "yes")


def _keep_image(work: Work, project: str, iteration: str, revision: int, image: answers.Image, shape: Shape) -> bool:
    """Keep an image as this listing shows it; False when the listing showed it before."""
    live = not iteration
    row = work.one("SELECT row FROM images WHERE project = ? AND id = ?", project, image.id)
    values = (live, image.original_image_uri, iteration, json.dumps(shape))
    if row is None:
        row = work.put(
            "INSERT INTO images (project, id, created, live, uri, iteration, shape) VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(project, image.id, image.created.isoformat(timespec="microseconds"), *values),
        )
    else:
        work.put("UPDATE images SET live = ?, uri = ?, iteration = ?, shape = ? WHERE row = ?", *values, row)
    content = json.dumps(_carried(image))
    counts = (bool(image.tags), len(image.regions or ()))
    last = next(
        work.rows("SELECT first, last, content FROM carried WHERE image = ? ORDER BY first DESC LIMIT 1", row), None
    )
    if last is not None and last[1] == revision:
        return False
    if last is not None and last[1] == revision - 1 and last[2] == content:
        work.put("UPDATE carried SET last = ? WHERE image = ? AND first = ?", revision, row, last[0])
    else:
        work.put("INSERT INTO carried VALUES (?, ?, ?, ?, ?, ?)", row, revision, revision, content, *counts)
    return True


def _carried(image: answers.Image) -> dict[str, Any]:
    """What an image carries: tags as (id, when), boxes as (id, tag, when, left, top, width, height)."""
    return {
        "tags": [[tag.tag_id, tag.created] for tag in image.tags or ()],
        "regions": [
            [box.region_id, box.tag_id, box.created, box.left, box.top, box.width, box.height]
            for box in image.regions or ()
        ],
        "metadata": image.metadata or {},
    }


def _scores(copy: Copy, project: str, id: str) -> None:
    step, at = f"scores:{id}", f"/projects/{project}/iterations/{id}/performance/images"
    if copy.work.state(project, step) == DONE:
        return
    try:
        expected = answers.count(copy.resource.ask(f"{at}/count"))
    except NotThere:
        copy.work.reach(project, step, DONE)
        return
    copy.watch.begin("scores", expected)

    def keep(page: Sequence[tuple[answers.ImagePerformance, Shape]]) -> int:
        before = copy.work.one("SELECT COUNT(*) FROM scores WHERE iteration = ?", id)
        copy.work.many(
            "INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?)",
            ((id, before + place, row.id, packed(shape)) for place, (row, shape) in enumerate(page)),
        )
        return int(copy.work.one("SELECT COUNT(*) FROM scores WHERE iteration = ?", id)) - int(before)

    _pages(copy, project, step, at, {}, answers.ImagePerformance, expected, keep)


def _pages(
    copy: Copy,
    project: str,
    step: str,
    path: str,
    parameters: Mapping[str, Any],
    model: type[M],
    expected: int,
    keep: Callable[[Sequence[tuple[M, Shape]]], int],
) -> None:
    """Read a listing from where it is to its end; `keep` says how many of a page are new in it."""
    state = copy.work.state(project, step) or "0"
    if state == DONE:
        return
    skip = int(state)
    copy.watch.advance(skip)
    while True:
        asked = {**parameters, "orderBy": "Oldest", "take": PAGE, "skip": skip}
        page = answers.many(model, copy.ask(path, asked), PAGE)
        over = not page or (len(page) < PAGE and skip + len(page) >= expected)
        with copy.work.together():
            new = keep(page)
            copy.work.reach(project, step, DONE if over else str(skip + len(page)))
        skip += len(page)
        copy.watch.advance(len(page))
        if over:
            return
        if not new or skip > min(2 * expected + 10 * PAGE, MOST):
            raise answers.Foreign(f"a listing without an end: {skip} entries, where it counts {expected}")


# --- predictions


def _predictions(copy: Copy, project: str) -> None:
    """Stored predictions, each page with its pictures: their addresses can only be asked for by the page."""
    state = copy.work.state(project, "predictions")
    if state == DONE:
        return
    copy.watch.begin("stored predictions", None)
    start: dict[str, Any] = {"orderBy": "Oldest", "maxCount": PREDICTIONS}
    body, first = {**start, **json.loads(state or "{}")}, True
    path = f"/projects/{project}/predictions/query"
    while True:
        try:
            query = answers.one(answers.Query, copy.resource.ask(path, body=body))
        except NotThere as error:
            if body == start:
                copy.work.reach(project, "predictions refused", str(error))
                copy.work.reach(project, "predictions", DONE)
                return
            if not first:
                raise Unanswered(f"The resource does not give its stored predictions. {error}") from None
            body = start  # what it began for an earlier run, it does not go on with
            continue
        page = answers.many(answers.Stored, query.results, MANY)
        known = _keep_predictions(copy.work, project, page)

        def again(ids: Sequence[str], body: Mapping[str, Any] = body) -> dict[str, str]:
            fresh = answers.one(answers.Query, copy.ask(path, body=body))
            there = answers.many(answers.Stored, fresh.results, MANY)
            return {row.id: row.original_image_uri for row, _ in there if row.id in ids}

        _fetch_pictures(copy, project, {row.id: row.original_image_uri for row, _ in page}, again)
        following = {"session": query.token.session, "continuation": query.token.continuation}
        copy.work.reach(project, "predictions", json.dumps(following) if query.token.continuation else DONE)
        if not query.token.continuation:
            return
        repeated = following["continuation"] == body.get("continuation")
        if repeated or (page and not known and not first) or copy.work.one(COUNTED, project) > MOST:
            raise answers.Foreign("stored predictions without an end")
        body, first = {**body, **following}, False


def _keep_predictions(work: Work, project: str, page: Sequence[tuple[answers.Stored, Shape]]) -> int:
    """Keep a page of predictions; how many of them are new."""
    before = work.one(COUNTED, project)
    with work.together():
        work.many(
            "INSERT OR IGNORE INTO predictions (project, id, created, iteration, shape) VALUES (?, ?, ?, ?, ?)",
            (
                (project, row.id, row.created.isoformat(timespec="microseconds"), row.iteration, packed(shape))
                for row, shape in page
            ),
        )
    return int(work.one(COUNTED, project) - before)


# --- bytes


def _pictures(copy: Copy, project: str) -> None:
    work = copy.work
    total = work.one("SELECT COUNT(*) FROM images WHERE project = ?", project)
    missing = (
        "SELECT i.row, i.id, i.uri, i.iteration FROM images i LEFT JOIN pictures p ON p.project = i.project AND "
        "p.id = i.id WHERE i.project = ? AND p.id IS NULL AND i.row > ? ORDER BY i.row LIMIT ?"
    )
    still = work.one(missing.replace("i.row, i.id, i.uri, i.iteration", "COUNT(*)", 1), project, -1, 1)
    copy.watch.begin("pictures", total)
    copy.watch.advance(total - still)
    after = -1
    while batch := list(work.rows(missing, project, after, PAGE)):
        after = batch[-1][0]
        of = {id: iteration for _, id, _, iteration in batch}

        def again(ids: Sequence[str], of: Mapping[str, str] = of) -> dict[str, str]:
            return _addresses(copy, project, {id: of[id] for id in ids})

        _fetch_pictures(copy, project, {id: uri for _, id, uri, _ in batch}, again)


def _addresses(copy: Copy, project: str, of: Mapping[str, str]) -> dict[str, str]:
    """New addresses of images, each of the workspace ("") or of an iteration; of those that are still there."""
    found: dict[str, str] = {}
    for iteration in sorted(set(of.values())):
        ids = [id for id, one in of.items() if one == iteration]
        for start in range(0, len(ids), IDS):
            asked = {"imageIds": ids[start : start + IDS], **({"iterationId": iteration} if iteration else {})}
            try:
                page = answers.many(answers.Image, copy.resource.ask(f"/projects/{project}/images/id", asked), PAGE)
            except NotThere:
                continue
            found |= {row.id: row.original_image_uri for row, _ in page if row.id in of}
    return found


def _fetch_pictures(
    copy: Copy, project: str, wanted: Mapping[str, str], again: Callable[[Sequence[str]], dict[str, str]]
) -> None:
    """Fetch pictures by their addresses; those that open nothing (any more) are asked for once again."""
    wanted = {id: uri for id, uri in wanted.items() if copy.work.fetched(project, id) is None}
    failed = _round(copy, project, wanted)
    if not failed:
        return
    fresh = again(list(failed))
    failed |= {id: "It is gone." for id in failed if id not in fresh}
    failed = {id: why for id, why in failed.items() if id not in fresh} | _round(copy, project, fresh)
    for id, why in failed.items():
        copy.work.keep(project, id, Fetched("", 0, 0, 0, "", why))
        copy.watch.advance()


def _round(copy: Copy, project: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Fetch pictures at once; which of them can't be had, and why."""
    if not wanted:
        return {}
    if shutil.disk_usage(copy.work.folder).free < LEAST_FREE:
        raise Unanswered("The disk is nearly full; make room and start the command again.")
    failed = {}
    threads = ThreadPoolExecutor(CONCURRENT, "pictures")
    jobs = {threads.submit(_picture, copy, project, id, uri): id for id, uri in wanted.items()}
    try:
        for job in as_completed(jobs):
            try:
                picture = job.result()
            except (Lapsed, Unusable, pixels.BadImage) as error:
                failed[jobs[job]] = str(error)
            else:
                copy.work.keep(project, jobs[job], picture)
                copy.watch.advance()
    except BaseException:  # Ctrl-C too: those under way end at once
        threads.shutdown(wait=False, cancel_futures=True)
        copy.resource.stop()
        raise
    finally:
        threads.shutdown()
    return failed


def _picture(copy: Copy, project: str, id: str, uri: str) -> Fetched:
    data = copy.resource.read(uri, project, PICTURE_BYTES)
    info = pixels.verify(data)
    sha256, size = copy.work.write(copy.work.picture_path(project, id), [data])
    return Fetched(sha256, size, info.width, info.height, info.format)


def _archives(copy: Copy, project: str) -> None:
    rows = list(
        copy.work.rows(
            "SELECT e.iteration, e.place, e.shape FROM exports e JOIN iterations i ON i.id = e.iteration "
            "WHERE i.project = ? AND e.sha256 IS NULL AND e.why IS NULL ORDER BY i.number, e.place",
            project,
        )
    )
    done = [(iteration, place, shape) for iteration, place, shape in rows if json.loads(shape)["status"] == "Done"]
    copy.watch.begin("exported models", len(done))
    for iteration, place, shape in done:
        sha256, size, why = _archive(copy, project, iteration, place, answers.one(answers.Export, json.loads(shape)))
        copy.work.put(
            "UPDATE exports SET sha256 = ?, size = ?, why = ? WHERE iteration = ? AND place = ?",
            *(sha256, size, why, iteration, place),
        )
        copy.watch.advance()


def _archive(
    copy: Copy, project: str, iteration: str, place: int, export: answers.Export
) -> tuple[str | None, int | None, str | None]:
    """Fetch an archive; its SHA-256 and bytes, or why it can't be had."""
    why, uri = "It has no address.", export.download_uri
    for attempt in range(3):
        if uri is None:
            break
        try:
            sha256, size = copy.work.write(
                copy.work.archive_path(iteration, place), copy.resource.stream(uri, project, ARCHIVE_BYTES)
            )
            return sha256, size, None
        except (Lapsed, Unusable, Unanswered) as error:
            if isinstance(error, Unanswered) and attempt == 2:
                raise
            why = str(error)
        uri = _export_address(copy, project, iteration, export)
    return None, None, why


def _export_address(copy: Copy, project: str, iteration: str, export: answers.Export) -> str | None:
    listed: Iterable[tuple[answers.Export, Shape]] = answers.many(
        answers.Export, copy.ask(f"/projects/{project}/iterations/{iteration}/export"), MANY
    )
    same = [one for one, _ in listed if (one.platform, one.flavor) == (export.platform, export.flavor)]
    return same[0].download_uri if same else None
