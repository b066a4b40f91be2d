"""`ownvision erase`: erase anything, with a receipt; the service may be running."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import AsJson, Data, installation

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ownvision.data_rights.who import Who
    from ownvision.services.components import Components
    from ownvision.store.tables import Receipt
    from ownvision.store.tally import Tally

app = typer.Typer(help="Erase anything, with a receipt", no_args_is_help=True)

Owner = Annotated[str | None, typer.Option("--account", help="User name; not needed while there is one account")]
ProjectName = Annotated[str, typer.Argument(metavar="PROJECT", help="Name or id")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids")]
Confirm = Annotated[str | None, typer.Option(help="The name of what is to be erased, typed back")]
Change = Callable[["Session", "Who", str], "Receipt"]


@app.command("image")
def erase_image(
    project: ProjectName,
    ids: Ids,
    all_iterations: Annotated[
        bool, typer.Option("--all-iterations", help="From every iteration too, not from the workspace alone")
    ] = False,
    account: Owner = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase images."""
    from ownvision.data_rights import erasure

    _erase(
        data,
        account,
        project,
        as_json,
        lambda session, who, id: erasure.erase_images(session, who, id, ids, all_iterations=all_iterations),
    )


@app.command("tag")
def erase_tag(
    project: ProjectName,
    id: Annotated[str, typer.Argument(metavar="TAG", help="Id of the tag")],
    account: Owner = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase a tag from the workspace, with its regions."""
    from ownvision.data_rights import erasure

    _erase(data, account, project, as_json, lambda session, who, of: erasure.erase_tag(session, who, of, id))


@app.command("iteration")
def erase_iteration(
    project: ProjectName,
    id: Annotated[str, typer.Argument(metavar="ITERATION", help="Id of the iteration")],
    account: Owner = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase an iteration with its model, scores, exports and stored predictions."""
    from ownvision.data_rights import erasure

    _erase(data, account, project, as_json, lambda session, who, of: erasure.erase_iteration(session, who, of, id))


@app.command("prediction")
def erase_prediction(
    project: ProjectName, ids: Ids, account: Owner = None, as_json: AsJson = False, data: Data = None
) -> None:
    """Erase stored predictions with their pictures."""
    from ownvision.data_rights import erasure

    _erase(data, account, project, as_json, lambda session, who, of: erasure.erase_predictions(session, who, of, ids))


@app.command("export")
def erase_export(
    project: ProjectName,
    iteration: Annotated[str, typer.Argument(metavar="ITERATION", help="Id of the iteration")],
    id: Annotated[str, typer.Argument(metavar="EXPORT", help="Id of the export")],
    account: Owner = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase one export of an iteration."""
    from ownvision.data_rights import erasure

    _erase(
        data, account, project, as_json, lambda session, who, of: erasure.erase_export(session, who, of, iteration, id)
    )


@app.command("project")
def erase_project(
    project: ProjectName, confirm: Confirm = None, account: Owner = None, as_json: AsJson = False, data: Data = None
) -> None:
    """Erase a project; without --confirm only show what would go."""
    from ownvision.data_rights import erasure, extent
    from ownvision.services import projects

    if confirm is None:
        with installation(data) as components, components.database.read() as session:
            owner, id = _project(session, account, project)
            found = projects.get(session, owner, id)
            _show(found.name, extent.of_project(session, components, found), as_json)
        return

    def erase(session: "Session", who: "Who", id: str) -> "Receipt":
        _check(confirm, projects.get(session, who.account_id, id).name)
        return erasure.erase_project(session, who, id)

    _erase(data, account, project, as_json, erase)


@app.command("account")
def erase_account(
    name: Annotated[str, typer.Argument(metavar="NAME", help="User name")],
    confirm: Confirm = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Erase an account with all that it holds; without --confirm only show what would go."""
    from ownvision.data_rights import erasure, extent
    from ownvision.data_rights.who import OPERATOR, Who
    from ownvision.services import accounts

    with installation(data) as components:
        if confirm is None:
            with components.database.read() as session:
                found = accounts.named(session, name)
                _show(found.user_name, extent.of_account(session, components, found.id), as_json)
            return
        with components.database.write() as session:
            found = accounts.named(session, name)
            _check(confirm, found.user_name)
            receipt = erasure.erase_account(session, Who(found.id, OPERATOR))
        _conclude(components, receipt, as_json)


def _erase(data: Path | None, account: str | None, project: str, as_json: bool, change: Change) -> None:
    from ownvision.data_rights.who import OPERATOR, Who

    with installation(data) as components:
        with components.database.write() as session:
            owner, id = _project(session, account, project)
            receipt = change(session, Who(owner, OPERATOR), id)
        _conclude(components, receipt, as_json)


def _conclude(components: "Components", receipt: "Receipt", as_json: bool) -> None:
    """What follows the commit; where no service runs, all that a worker would do."""
    from ownvision.commands.receipt import shown
    from ownvision.data_rights import erasure, finishing, receipts, signing

    erasure.after_commit(components, receipt)
    finishing.finish(components)
    with components.database.read() as session:
        document = signing.document(session, receipts.get(session, receipt.id))
    typer.echo(json.dumps(document, indent=2) if as_json else shown(document))


def _project(session: "Session", account: str | None, project: str) -> tuple[str, str]:
    """The account's and the project's id."""
    from ownvision.services import accounts, projects

    owner = accounts.named(session, account).id
    mine = projects.all(session, owner)
    for row in mine:
        if project in (row.name, row.id):
            return owner, row.id
    names = ", ".join(sorted(row.name for row in mine)) or "none"
    raise ClientError(f"There is no project {project!r}; there are: {names}.")


def _check(typed: str, name: str) -> None:
    if typed != name:
        raise ClientError(f"Nothing was erased: --confirm must be the name {name!r}, typed exactly.")


def _show(name: str, going: "Tally", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "data": going}, indent=2))
        return
    typer.echo(f"With {name!r} goes:")
    for kind, amount in sorted(going.items()):
        size = f"{amount['bytes']:>16,} bytes" if amount["bytes"] else ""
        typer.echo(f"  {kind:<16}{amount['count']:>10,}{size}")
    typer.echo("and everything made from it. Nothing was erased yet: add --confirm with the name.")
