"""`ownvision person`: find what concerns one person, restrict it, erase it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ownvision.client import ClientError
from ownvision.commands.archive import PartFile
from ownvision.commands.installation import AccountName, AsJson, Data, installation

if TYPE_CHECKING:
    from ownvision.data_rights.person import Found

app = typer.Typer(help="What concerns one person", no_args_is_help=True)

Ids = Annotated[
    list[str],
    typer.Argument(help="Ids of images and stored predictions, or - to read what `person find --json` printed"),
]


@app.command("find")
def person_find(
    picture: Annotated[Path | None, typer.Option(help="A picture: its exact bytes, and what looks like it")] = None,
    name: Annotated[str | None, typer.Option("--file-name", help="Part of the file name, or a pattern with *")] = None,
    pairs: Annotated[list[str] | None, typer.Option("--metadata", help="KEY=VALUE, VALUE may hold *; several")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of a picture's exact bytes")] = None,
    like: Annotated[float, typer.Option(help="How like the picture, 0 to 1", min=0, max=1)] = 0.9,
    take: Annotated[int, typer.Option(help="How many at most", min=1, max=10_000)] = 100,
    account: AccountName = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Find images and stored predictions, in all projects and iterations; nothing of the search is kept."""
    from ownvision.data_rights import person
    from ownvision.services import accounts

    search = person.Search(
        name, _metadata(pairs or []), sha256, None if picture is None else picture.read_bytes(), like, (), take
    )
    with installation(data) as components:
        with components.database.read() as session:
            account_id = accounts.named(session, account).id
        found = person.find(components, account_id, search, _progress)
        with components.database.read() as session:
            learned = person.learned(session, account_id, [one.row.id for one in found if one.kind == person.IMAGE])
    typer.echo("\r\033[K", nl=False, err=True)
    if as_json:
        typer.echo(json.dumps({"found": [_shape(one) for one in found], "learned": learned}, indent=2))
        return
    for one in found:
        typer.echo(_line(one))
    for model in learned:
        published = f", published as {model['publishName']}" if model["publishName"] else ""
        typer.echo(
            f"learned from {model['images']} of them: {model['name']} of project {model['projectId']}{published}"
        )
    if not found:
        typer.echo("Nothing was found.")


@app.command("takeout")
def person_takeout(
    ids: Ids,
    out: Annotated[Path, typer.Option(help="The archive; a file that is there is not replaced")],
    account: AccountName = None,
    data: Data = None,
) -> None:
    """Take the chosen images and predictions out into one ZIP archive, without keys and trail."""
    from ownvision.data_rights import person
    from ownvision.data_rights.takeout import writer
    from ownvision.data_rights.takeout.own import Own
    from ownvision.services import accounts
    from ownvision.store.tables.base import now

    chosen = _chosen(ids)
    with installation(data) as components:
        with components.database.read() as session:
            account_id = accounts.named(session, account).id
            selection = person.owned(session, account_id, *_split(session, account_id, chosen))
        source, told = Own(components, account_id, None, now(), selection), writer.Told()
        with PartFile(out) as file:
            for part in writer.stream(source, out.absolute().parent, told):
                file.write(part)
            size = file.keep()
    number = sum(len(of) for of in selection.values())
    typer.echo(f"{out}: {number} images and predictions, {size:,} bytes")


@app.command("restrict")
def person_restrict(
    ids: Ids,
    lift: Annotated[bool, typer.Option("--lift", help="Treat them like all others again")] = False,
    account: AccountName = None,
    data: Data = None,
) -> None:
    """Keep images, but neither learn from them nor suggest anything for them."""
    from ownvision.data_rights import person
    from ownvision.data_rights.who import OPERATOR, Who
    from ownvision.services import accounts

    chosen = _chosen(ids)
    with installation(data) as components, components.database.write() as session:
        who = Who(accounts.named(session, account).id, OPERATOR)
        images, predictions = _split(session, who.account_id, chosen)
        if predictions:
            raise ClientError("Stored predictions are not learned from; they can be erased, not restricted.")
        changed = person.restrict(session, who, images, restricted=not lift)
    typer.echo(f"{changed} of {len(images)} images are {'no longer ' if lift else ''}restricted now.")


@app.command("erase")
def person_erase(
    ids: Ids,
    confirm: Annotated[int | None, typer.Option(help="How many these are, instead of being asked")] = None,
    account: AccountName = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase images from everywhere, and stored predictions, under one receipt."""
    from ownvision.data_rights import erasure, person
    from ownvision.data_rights.who import OPERATOR, Who
    from ownvision.services import accounts

    chosen = _chosen(ids)
    with installation(data) as components:
        with components.database.read() as session:
            who = Who(accounts.named(session, account).id, OPERATOR)
            images, predictions = _split(session, who.account_id, chosen)
            learned = person.learned(session, who.account_id, images)
        if confirm is None:
            for model in learned:
                typer.echo(f"{model['name']} of project {model['projectId']} learned from {model['images']} of them.")
            confirm = typer.prompt(
                f"{len(images)} images and {len(predictions)} predictions go for good. Their number", type=int
            )
        with components.database.write() as session:
            receipt = person.erase(session, who, images, predictions, confirmed=confirm)
        erasure.after_commit(components, receipt)
    if as_json:
        typer.echo(json.dumps({"receipt": receipt.id, "learned": receipt.learned}, indent=2))
    else:
        typer.echo(f"Erased. Receipt {receipt.id}")


def _progress(seen: int) -> None:
    if seen % 160 == 0:
        typer.echo(f"\r{seen} pictures compared", nl=False, err=True)


def _metadata(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    wrong = next((key for key, equals, _ in split if not equals), None)
    if wrong is not None:
        raise ClientError(f"--metadata is KEY=VALUE, not {wrong!r}.")
    return {key: value for key, _, value in split}


def _chosen(ids: list[str]) -> list[str]:
    if ids != ["-"]:
        return [id.lower() for id in ids]
    try:
        told: dict[str, Any] = json.load(typer.get_text_stream("stdin"))
        return [one["id"] for one in told["found"]]
    except (ValueError, KeyError, TypeError):
        raise ClientError("The standard input is not what `ownvision person find --json` prints.") from None


def _split(session: Any, account_id: str, ids: list[str]) -> tuple[list[str], list[str]]:
    """Which are images, which predictions; what is neither is left to be refused as an image."""
    from ownvision.data_rights import person

    predictions = {one.row.id for one in person.look(session, account_id, [], ids)}
    return [id for id in ids if id not in predictions], [id for id in ids if id in predictions]


def _shape(one: "Found") -> dict[str, Any]:
    restricted = getattr(one.row, "restricted", None)
    return {
        "kind": one.kind,
        "id": one.row.id,
        "projectId": one.row.project_id,
        "by": one.by,
        "likeness": one.likeness,
        "fileName": getattr(one.row, "file_name", None),
        "created": one.row.created.isoformat(),
        "workspace": one.workspace,
        "restricted": None if restricted is None else restricted.isoformat(),
        "iterations": [{"id": it.id, "name": it.name, "publishName": it.publish_name} for it in one.iterations],
    }


def _line(one: "Found") -> str:
    where = (["workspace"] if one.workspace else []) + [iteration.name for iteration in one.iterations]
    why = ", ".join(one.by) + (f" {one.likeness:.3f}" if one.likeness is not None else "")
    name = getattr(one.row, "file_name", None) or ""
    mark = " restricted" if getattr(one.row, "restricted", None) is not None else ""
    return f"{one.kind:<10} {one.row.id}  {why:<24} {', '.join(where)}{mark}  {name}".rstrip()
