"""`ownvision receipt`: list, show and verify receipts of erasures."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ownvision.client import ClientError
from ownvision.commands.installation import AsJson, Data, installation

app = typer.Typer(help="Receipts: the proof of what was erased", no_args_is_help=True)


@app.command("list")
def receipt_list(
    account: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT]", help="User name, or id of an account that was erased")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List receipts, newest first; without an account those of all, also of accounts that are no more."""
    from sqlalchemy import select

    from ownvision.data_rights import audit, signing
    from ownvision.services import accounts
    from ownvision.store.audit import current
    from ownvision.store.tables import Receipt

    query = select(Receipt).order_by(Receipt.asked.desc(), Receipt.number.desc())
    with installation(data) as components:
        with components.database.read() as session:
            if account is not None:
                known = {row.user_name: row.id for row in accounts.all(session)}
                query = query.where(Receipt.account_id == known.get(account, account))
            rows = list(session.scalars(query))
            documents = [signing.document(session, row) for row in rows] if as_json else []
        audit.seen(components.database, current(), {row.account_id for row in rows})
    if as_json:
        typer.echo(json.dumps(documents, indent=2))
        return
    for row in rows:
        typer.echo(f"{row.id}  {row.asked:%Y-%m-%d %H:%M:%S}  {row.state:<7} {row.operation:<20} {row.account_id}")


@app.command("show")
def receipt_show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the receipt")],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show a receipt: its statement, or how far its erasure is."""
    from ownvision.data_rights import receipts, signing

    with installation(data) as components, components.database.read() as session:
        document = signing.document(session, receipts.get(session, id))
    typer.echo(json.dumps(document, indent=2) if as_json else shown(document))


@app.command("verify")
def receipt_verify(
    receipt: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="A file with receipts, or an id in the data folder")
    ],
    public_key: Annotated[
        str | None,
        typer.Option(help="The key to hold it to, base64 (GET /receipts/key); then no data folder is needed"),
    ] = None,
    data: Data = None,
) -> None:
    """Check signatures, and the chain as far as it is given; exit code 1 when one is wrong.

    A file holds one receipt as the service gives it, a JSON array of them, or one a line. Of an id all earlier receipts
    of its account are checked too.
    """
    from ownvision.data_rights import signing

    path = Path(receipt)
    if path.is_file():
        documents, key = _read(path), public_key
        if key is None and data is not None:
            with installation(data) as components:
                key = signing.public_key(components.keys)
    else:
        with installation(data) as components, components.database.read() as session:
            documents = _chain(session, receipt)
            key = public_key or signing.public_key(components.keys)
    verdicts = signing.verify(documents, key)
    for verdict in verdicts:
        typer.echo(f"{verdict.id}  number {verdict.number}: {verdict.wrong or 'in order'}")
    if not verdicts or any(verdict.wrong for verdict in verdicts):
        raise typer.Exit(1)
    if key is None:
        typer.echo(f"Signed with the key that they name, {verdicts[0].key}; compare it with --public-key.")


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    try:
        try:
            found = json.loads(text)
        except ValueError:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        raise ClientError(f"{path} holds no JSON.") from None
    documents = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in documents):
        raise ClientError(f"{path} holds no receipts.")
    return documents


def _chain(session: Any, receipt_id: str) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from ownvision.data_rights import receipts, signing
    from ownvision.store.tables import Receipt

    last = receipts.get(session, receipt_id)
    before = select(Receipt).where(Receipt.account_id == last.account_id, Receipt.number <= last.number)
    return [signing.document(session, row) for row in session.scalars(before.order_by(Receipt.number))]


def shown(document: dict[str, Any]) -> str:
    """A receipt for a person to read."""
    said = document.get("statement") or document
    lines = [f"receipt {document['id']}, {document['state']}", f"{said['operation']}, asked {said['asked']}"]
    lines += [f"  {kind}: {', '.join(ids)}" for kind, ids in said["subjects"].items()]
    lines.append("erased:")
    lines += [f"  {kind}: {one['count']:,} ({one['bytes']:,} bytes)" for kind, one in sorted(said["erased"].items())]
    lines += [f"kept: {one['kind']}: {one['count']:,}. {one['why']}" for one in said["kept"]]
    lines += [
        f"iteration {one['iterationId']} learned from {one['images']:,} of the images"
        f"{', was published' if one['published'] else ''}, had {one['exports']} exports: {one['outcome']}"
        for one in said["learned"]
    ]
    if "signature" in document:
        newest = said["backups"]["newest"] or "none known"
        lines += [
            f"newest backup before: {newest}. {said['backups']['meaning']}",
            f"finished {said['finished']}, signed {said['signed']}",
            f"number {said['number']} of account {said['account']}",
            f"signature {document['signature']}",
        ]
    else:
        lines.append(document["waitsFor"])
    return "\n".join(lines)
