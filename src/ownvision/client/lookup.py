"""What a person means: a project, domain or iteration by name or id, the account of a data folder."""

from pathlib import Path
from typing import Any

from ownvision.client.http import ClientError, Json, Service


def local_account(data: Path, name: str | None = None) -> dict[str, Any]:
    """The account of that user name in a data folder on this machine, with its keys; the only one without a name.

    Raises:
        ClientError: when there is no installation.
        OwnVisionError: when there is no such account, or several and no name.
    """
    # Imported here: a machine that only calls a service elsewhere does not load the database for it.
    from ownvision.services import accounts
    from ownvision.services.components import open_components
    from ownvision.settings import Settings

    if not (data / "keys").is_dir():
        raise ClientError(f"There is no installation in {data}; start it with `ownvision serve --data {data}`.")
    components = open_components(Settings.model_validate({"data": data}))
    try:
        with components.database.read() as session:
            return accounts.describe(session, components.keys, accounts.named(session, name))
    finally:
        components.database.close()


def find_project(service: Service, name: str) -> Json | None:
    """The project of that name or id; None when there is none."""
    return next((row for row in service.projects() if name in (row["name"], row["id"])), None)


def project(service: Service, name: str) -> Json:
    """The project of that name or id.

    Raises:
        ClientError: with the names there are.
    """
    found = find_project(service, name)
    if found is None:
        names = ", ".join(sorted(row["name"] for row in service.projects())) or "none"
        raise ClientError(f"There is no project {name!r}; there are: {names}.")
    return found


def domain(service: Service, name: str, kind: str) -> Json:
    """The domain of that id, or of that name and type (Classification or ObjectDetection).

    Raises:
        ClientError: with the names of that type.
    """
    rows = [row for row in service.domains() if row["type"] == kind]
    for row in rows:
        if name.lower() in (row["name"].lower(), row["id"]):
            return row
    names = ", ".join(row["name"] for row in rows)
    raise ClientError(f"There is no {kind} domain {name!r}; there are: {names}.")


def domain_by_id(service: Service, domain_id: str) -> Json:
    """The domain of that id."""
    return next(row for row in service.domains() if row["id"] == domain_id)


def iteration(service: Service, project: Json, name: str | None) -> Json:
    """The iteration by publish name, name or id; without one, the newest published, else the newest trained.

    Raises:
        ClientError: when there is none.
    """
    rows = [row for row in service.iterations(project["id"]) if row["status"] == "Completed"]
    if name is not None:
        rows = [row for row in rows if name in (row["publishName"], row["name"], row["id"])]
    rows.sort(key=lambda row: row["publishName"] is None)  # stable: newest first stays so in both halves
    if not rows:
        which = f"iteration {name!r}" if name else "trained iteration; run `ownvision train` first"
        raise ClientError(f"The project {project['name']} has no {which}.")
    return rows[0]
