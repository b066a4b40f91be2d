"""Is the copy whole? What was listed against what the resource counts, and every picture against its hash."""

import json
from collections import Counter
from collections.abc import Iterator

from ownvision.data_rights.azure_import import answers
from ownvision.data_rights.azure_import.crawl import MANY, Copy, counted
from ownvision.data_rights.azure_import.work import Work

_SHOWN = 10


def listing(copy: Copy, project: str) -> list[str]:
    """Where the resource counts otherwise than was listed: it was changed meanwhile, or counts wrongly."""
    copy.watch.begin("comparing", None)
    trained = list(
        copy.work.rows("SELECT id, revision, shape FROM iterations WHERE project = ? AND revision IS NOT NULL", project)
    )
    return [
        *_iterations(copy, project),
        *(
            difference
            for id, revision, shape in trained
            for difference in _images(copy, project, id, revision, str(json.loads(shape)["name"]))
        ),
        *_images(copy, project, "", len(trained) + 1, "the workspace"),
        *_tags(copy, project, len(trained) + 1),
    ]


def bytes_missing(work: Work, project: str) -> list[str]:
    """Pictures and archives that could not be had."""
    pictures = list(work.rows("SELECT id, why FROM pictures WHERE project = ? AND why IS NOT NULL", project))
    archives = list(
        work.rows(
            "SELECT i.number, e.shape, e.why FROM exports e JOIN iterations i ON i.id = e.iteration "
            "WHERE i.project = ? AND e.why IS NOT NULL",
            project,
        )
    )
    found = [f"picture {id} could not be had. {why}" for id, why in pictures[:_SHOWN]]
    if len(pictures) > _SHOWN:
        found.append(f"{len(pictures) - _SHOWN} more pictures could not be had")
    for number, shape, why in archives:
        found.append(f"the {json.loads(shape)['platform']} export of iteration {number} could not be had. {why}")
    refused = work.state(project, "predictions refused")
    if refused is not None:
        found.append(f"the resource did not give its stored predictions. {refused}")
    return found


def _iterations(copy: Copy, project: str) -> Iterator[str]:
    now = {
        row.id: (row.name, row.status)
        for row, _ in answers.many(answers.Iteration, copy.ask(f"/projects/{project}/iterations"), MANY)
        if row.status != "New"
    }
    then = {}
    for id, shape in copy.work.rows("SELECT id, shape FROM iterations WHERE project = ?", project):
        row = json.loads(shape)
        then[id] = (row["name"], row["status"])
    for id in sorted(now.keys() - then.keys()):
        yield f"{now[id][0]} was made meanwhile"
    for id in sorted(then.keys() - now.keys()):
        yield f"{then[id][0]} was deleted meanwhile"
    for id in sorted(id for id in then.keys() & now.keys() if then[id] != now[id]):
        yield f"{then[id][0]} ({then[id][1]}) is {now[id][0]} ({now[id][1]}) now"


def _images(copy: Copy, project: str, iteration: str, revision: int, where: str) -> Iterator[str]:
    told = counted(copy, project, iteration)
    there = next(
        copy.work.rows(
            "SELECT COALESCE(SUM(c.tagged), 0), COALESCE(SUM(1 - c.tagged), 0) FROM carried c "
            "JOIN images i ON i.row = c.image WHERE i.project = ?1 AND c.first <= ?2 AND c.last >= ?2",
            project,
            revision,
        )
    )
    for kind, told_of, got in zip(("tagged", "untagged"), told, there, strict=True):
        if told_of != got:
            yield f"{where}: {told_of} {kind} images are counted, {got} were listed"


def _tags(copy: Copy, project: str, revision: int) -> Iterator[str]:
    """The workspace's tags by name and number of images."""
    listed = {
        id: json.loads(shape)["name"]
        for id, shape in copy.work.rows("SELECT id, shape FROM tags WHERE project = ? AND iteration = ''", project)
    }
    carried: Counter[str] = Counter()
    for (content,) in copy.work.rows(
        "SELECT c.content FROM carried c JOIN images i ON i.row = c.image WHERE i.project = ? AND c.last = ?",
        project,
        revision,
    ):
        carried.update({tag for tag, _ in json.loads(content)["tags"]})
    now = {row.id: row for row, _ in answers.many(answers.Tag, copy.ask(f"/projects/{project}/tags"), MANY)}
    for id in sorted(listed.keys() - now.keys()):
        yield f"the tag {listed[id]!r} was deleted meanwhile"
    for id, row in sorted(now.items()):
        if listed.get(id) != row.name:
            yield f"the tag {row.name!r} was made or renamed meanwhile"
        elif row.image_count != carried[id]:
            yield f"the tag {row.name!r}: {row.image_count} images are counted, {carried[id]} were listed"
