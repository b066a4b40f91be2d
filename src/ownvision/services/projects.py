"""Projects: images, tags and iterations of one task."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select
from sqlalchemy import update as update_rows
from sqlalchemy.orm import Session

from ownvision.domains import CLASSIFICATION, DETECTION, DOMAINS, GENERAL, Domain
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.limits import TIERS, Limits
from ownvision.store import ledger, tally
from ownvision.store.keys import KeyStore
from ownvision.store.tables import Account, Image, Iteration, Notification, Project, ProjectExport
from ownvision.store.tables.base import new_id, now

CLASSIFIERS = ("Multiclass", "Multilabel")
# The enumeration of the API; what a domain can really export to is `Domain.platforms`.
EXPORT_PLATFORMS = ("CoreML", "TensorFlow", "DockerFile", "ONNX", "VAIDK", "OpenVino")
SUCCEEDED, IMPORTING, FAILED = "Succeeded", "Importing", "Failed"
AUGMENTATIONS = ("rotation", "scaling", "translation", "horizontal flip", "equalize", "solarize", "padtosquare")


def all(session: Session, account_id: str) -> list[Project]:
    """An account's projects, newest first."""
    return list(
        session.scalars(
            select(Project)
            .where(Project.account_id == account_id, Project.closed.is_(None))
            .order_by(Project.created.desc(), Project.id)
        )
    )


def get(session: Session, account_id: str, project_id: str, *, lock: bool = False) -> Project:
    """One project of an account; with `lock` to be changed.

    Raises:
        OwnVisionError: NotFoundProject, also for another account's project; BadRequestOperationNotSupported, when a
            project is to be changed that is still arriving.
    """
    project = _found(session, account_id, project_id, lock)
    if lock:
        check_arrived(project)
    return project


def to_delete(session: Session, account_id: str, project_id: str) -> Project:
    """One project of an account, locked, whatever its status.

    Raises:
        OwnVisionError: NotFoundProject.
    """
    return _found(session, account_id, project_id, True)


def check_arrived(project: Project) -> None:
    """Refuse to change a project while it is being imported.

    Raises:
        OwnVisionError: BadRequestOperationNotSupported.
    """
    if project.status == IMPORTING:
        raise OwnVisionError(
            "BadRequestOperationNotSupported",
            "The project is still being imported; wait until its status is Succeeded, or delete it.",
        )


def _found(session: Session, account_id: str, project_id: str, lock: bool) -> Project:
    query = select(Project).where(Project.id == project_id, Project.account_id == account_id, Project.closed.is_(None))
    project = session.scalar(query.with_for_update() if lock else query)
    if project is None:
        raise OwnVisionError("NotFoundProject", f"There is no project {project_id} in this account.")
    return project


def lock(session: Session, account_id: str, project_id: str) -> Project:
    """The project, locked and at its next revision: what every writer of images, tags or regions starts with.

    Nothing slow may happen until the transaction ends.

    Raises:
        OwnVisionError: NotFoundProject.
    """
    project = get(session, account_id, project_id, lock=True)
    project.revision += 1
    return project


class Wishes(TypedDict):
    """What a new project is to be."""

    name: str
    description: str | None
    domain_id: str | None
    classification_type: str | None
    target_export_platforms: Sequence[str]
    limits: Limits


def create(session: Session, keys: KeyStore, account: Account, **wishes: Unpack[Wishes]) -> Project:
    """A new project; a taken name becomes "name (1)".

    Raises:
        OwnVisionError: BadRequestProject…, BadRequestExceedProjectLimit.
    """
    return add(session, keys, draft(session, account, **wishes))


def draft(session: Session, account: Account, **wishes: Unpack[Wishes]) -> Project:
    """What `create` would make, not stored yet.

    Raises:
        OwnVisionError: As `create`.
    """
    name, description, limits = wishes["name"], wishes["description"] or "", wishes["limits"]
    _check_name(name, limits)
    _check_description(description, limits)
    domain = _domain(wishes["domain_id"] or GENERAL)
    quota = TIERS[account.tier].projects
    open_ones = (Project.account_id == account.id, Project.closed.is_(None))
    names = set(session.scalars(select(Project.name).where(*open_ones)))
    if quota is not None and len(names) >= quota:
        raise OwnVisionError(
            "BadRequestExceedProjectLimit", f"Tier {account.tier} allows {quota} projects; delete one first."
        )
    return Project(
        id=new_id(),
        account_id=account.id,
        name=_free_name(name, names),
        description=description,
        domain_id=domain.id,
        classification_type=_classifier(domain, wishes["classification_type"]),
        target_export_platforms=_platforms(wishes["target_export_platforms"]),
        augmentation=dict.fromkeys(AUGMENTATIONS, True),
    )


def add(session: Session, keys: KeyStore, project: Project) -> Project:
    """Store a draft."""
    # The key first: a project without a key could not take an image. A crash before the commit leaves a stray key,
    # which the sweeper removes.
    keys.create_project(project.account_id, project.id)
    session.add(project)
    session.flush()
    return project


def update(session: Session, project: Project, changes: Mapping[str, Any], limits: Limits) -> Project:
    """Change name, description or settings; what `changes` (wire names) leaves out, or can't be changed, stays.

    Raises:
        OwnVisionError: BadRequestProject….
    """
    settings: Mapping[str, Any] = changes.get("settings") or {}
    name = changes.get("name")
    if name is not None and name != project.name:
        _check_name(name, limits)
        if session.scalar(select(Project.id).where(Project.account_id == project.account_id, Project.name == name)):
            raise OwnVisionError("BadRequestProjectNameNotUnique", f"Another project is named {name!r}.")
        project.name = name
    if changes.get("description") is not None:
        _check_description(changes["description"], limits)
        project.description = changes["description"]
    if settings.get("domainId"):
        domain = _domain(settings["domainId"])
        if domain.type != DOMAINS[project.domain_id].type:
            raise OwnVisionError(
                "BadRequestProjectUnsupportedDomainTypeChange",
                f"A project of type {DOMAINS[project.domain_id].type} can't take a domain of type {domain.type}.",
            )
        project.domain_id = domain.id
    if settings.get("classificationType") is not None:
        project.classification_type = _classifier(DOMAINS[project.domain_id], settings["classificationType"])
    if settings.get("targetExportPlatforms") is not None:
        project.target_export_platforms = _platforms(settings["targetExportPlatforms"])
    processing = settings.get("imageProcessingSettings")
    if processing is not None and processing.get("augmentationMethods") is not None:
        project.augmentation = _augmentation(processing["augmentationMethods"])
    project.last_modified = now()
    session.flush()
    return project


def check_unpublished(session: Session, project: Project) -> None:
    """Refuse to delete a project of which an iteration is published.

    Raises:
        OwnVisionError: BadRequestIterationIsPublished.
    """
    published = session.scalar(
        select(Iteration).where(Iteration.project_id == project.id, Iteration.publish_name.is_not(None)).limit(1)
    )
    if published is not None:
        raise OwnVisionError(
            "BadRequestIterationIsPublished",
            f"{published.name} is published as {published.publish_name!r}; unpublish it before deleting the project.",
        )


def close(session: Session, project: Project) -> None:
    """Take a locked project out of everybody's sight, whatever it holds; `data_rights.closing` empties it.

    Its name is free for another at once, and what was given in confidence is forgotten: addresses, messages, tokens.
    """
    addresses = (project.export_container, project.notification_queue, project.webhook)
    waiting = session.execute(
        update_rows(Iteration)
        .where(Iteration.project_id == project.id, Iteration.notify_email.is_not(None))
        .values(notify_email=None)
    )
    tally.count(session, "addresses", sum(one is not None for one in addresses) + waiting.rowcount)  # type: ignore[attr-defined]
    tally.count(session, "jobsCancelled", len(rows.stop_project(session, project.id)))
    for kind, table in (("notifications", Notification), ("projectTokens", ProjectExport)):
        gone = session.execute(delete_rows(table).where(table.project_id == project.id))
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
    project.export_container = project.notification_queue = project.webhook = None
    project.name, project.description, project.closed = f"closed {project.id}", "", now()
    ledger.close(session, ledger.PROJECT, project.account_id, project.id)
    session.flush()


def thumbnail_image(session: Session, project: Project) -> str | None:
    """Id of the image that stands for the project: the newest of its workspace."""
    return session.scalar(
        select(Image.id)
        .where(Image.project_id == project.id, Image.until.is_(None))
        .order_by(Image.seq.desc())
        .limit(1)
    )


def workspace_id(project_id: str) -> str:
    """The id by which v1.x names a project's workspace, as if it was an iteration (RFC 4122, version 5)."""
    return str(uuid.uuid5(uuid.UUID(project_id), "workspace"))


def is_detection(project: Project) -> bool:
    """Whether the project finds objects rather than classifies whole images."""
    return DOMAINS[project.domain_id].type == DETECTION


def count(session: Session, account_id: str) -> int:
    """How many projects an account has."""
    mine = (Project.account_id == account_id, Project.closed.is_(None))
    return session.scalar(select(func.count()).select_from(Project).where(*mine)) or 0


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 1
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"


def _check_name(name: str, limits: Limits) -> None:
    if not name.strip() or len(name) > limits.name_characters:
        raise OwnVisionError(
            "BadRequestProjectName", f"A project needs a name of 1 to {limits.name_characters} characters."
        )


def _check_description(description: str, limits: Limits) -> None:
    if len(description) > limits.description_characters:
        raise OwnVisionError(
            "BadRequestProjectDescription",
            f"A description may have {limits.description_characters} characters; this one has {len(description)}.",
        )


def _domain(domain_id: str) -> Domain:
    domain = DOMAINS.get(domain_id.lower())
    if domain is None or not domain.enabled:
        raise OwnVisionError("BadRequestProjectUnknownDomain", f"There is no domain {domain_id}; see GetDomains.")
    return domain


def _classifier(domain: Domain, wanted: str | None) -> str:
    if domain.type != CLASSIFICATION:
        return "Multiclass"  # what the original shows for detection projects
    for name in CLASSIFIERS:
        if (wanted or "Multilabel").lower() == name.lower():
            return name
    raise OwnVisionError(
        "BadRequestProjectUnknownClassification",
        f"classificationType is {' or '.join(CLASSIFIERS)}, not {wanted!r}.",
    )


def _platforms(wanted: Sequence[str]) -> list[str]:
    by_lower = {platform.lower(): platform for platform in EXPORT_PLATFORMS}
    unknown = [platform for platform in wanted if platform.lower() not in by_lower]
    if unknown:
        raise OwnVisionError(
            "BadRequestProjectUnsupportedExportPlatform",
            f"{', '.join(unknown)} is no export platform; there are {', '.join(EXPORT_PLATFORMS)}.",
        )
    return [by_lower[platform.lower()] for platform in wanted]


def _augmentation(methods: Any) -> dict[str, bool]:
    if not isinstance(methods, Mapping) or not all_booleans(methods):
        raise OwnVisionError(
            "BadRequestProjectImagePreprocessingSettings",
            "augmentationMethods maps names of transforms to true or false.",
        )
    unknown = sorted(set(methods) - set(AUGMENTATIONS))
    if unknown:
        raise OwnVisionError(
            "BadRequestProjectImagePreprocessingSettings",
            f"{', '.join(map(repr, unknown))} is no transform; there are {', '.join(AUGMENTATIONS)}.",
        )
    return {method: bool(methods.get(method, False)) for method in AUGMENTATIONS}


def all_booleans(methods: Mapping[str, Any]) -> bool:
    """Whether every value is true or false, not merely truthy."""
    return not [value for value in methods.values() if not isinstance(value, bool)]
