"""Exports: an archive of an iteration's model for one platform and flavor, made by a job."""

import re
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.exporters import PLATFORMS
from ownvision.jobs import rows
from ownvision.services import iterations, models, notices, outputs, projects
from ownvision.services.components import Components
from ownvision.store import ledger, tally
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.tables import Export, Iteration, IterationTag, Job, Project
from ownvision.store.tables.base import new_id, now

EXPORTING, DONE, FAILED = "Exporting", "Done", "Failed"
ARCHIVE = "archive.zip"
KIND = "export"
_FLAVOR = re.compile(r"[A-Za-z0-9]{0,64}")


def all(session: Session, project: Project, iteration_id: str) -> list[Export]:
    """An iteration's exports, oldest first.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    iteration = iterations.get(session, project, iteration_id)
    return list(
        session.scalars(select(Export).where(Export.iteration_id == iteration.id).order_by(Export.created, Export.id))
    )


def is_nameable(platform: str, flavor: str) -> bool:
    """Whether an export that was made elsewhere can be shown here, though it could not be made here."""
    return platform in projects.EXPORT_PLATFORMS and _FLAVOR.fullmatch(flavor) is not None


def start(
    session: Session, project: Project, iteration_id: str, platform: str, flavor: str | None, base_url: str = ""
) -> Export:
    """Queue an export; one that failed before is begun anew.

    Args:
        session: The caller's transaction.
        project: Whose it is.
        iteration_id: What to export.
        platform: To where.
        flavor: In which form.
        base_url: The address that was called, for the address in the message at the end.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained, BadRequestExportValidationFailed,
            BadRequestExportAlreadyInProgress.
    """
    iteration = iterations.with_model(session, project, iteration_id)
    platform, flavor = _checked(iteration, platform, flavor)
    earlier = session.scalar(
        select(Export).where(
            Export.iteration_id == iteration.id, Export.platform == platform, Export.flavor == (flavor or "")
        )
    )
    if earlier is not None:
        if earlier.status != FAILED:
            kind = f"{platform} {flavor}" if flavor else platform
            raise OwnVisionError(
                "BadRequestExportAlreadyInProgress",
                f"{iteration.name} is exported to {kind} already (status {earlier.status}); GetExports shows it.",
            )
        session.delete(earlier)
        session.flush()
    export = Export(id=new_id(), iteration_id=iteration.id, platform=platform, flavor=flavor or "")
    session.add(export)
    session.flush()
    rows.enqueue(
        session,
        kind=KIND,
        account_id=project.account_id,
        project_id=project.id,
        subject=export.id,
        lane=rows.QUICK,
        payload={"base_url": base_url},
    )
    return export


def delete(session: Session, project: Project, iteration_id: str, export_id: str) -> None:
    """Delete one export of a locked project; one that is being made is cancelled.

    Raises:
        OwnVisionError: NotFoundIteration; NotFound, when the iteration has no such export.
    """
    iteration = iterations.get(session, project, iteration_id)
    export = session.scalar(select(Export).where(Export.id == export_id, Export.iteration_id == iteration.id))
    if export is None:
        raise OwnVisionError("NotFound", f"There is no export {export_id} of {iteration.name}.")
    tally.count(session, "jobsCancelled", len(rows.stop(session, [export.id])))
    outputs.release(session, project.id, [export.id])
    ledger.arrived(session, project.id, export.id)
    ledger.doom(session, [ledger.export_prefix(project.id, export.archive_id)])
    if export.archive_id != export.id:
        own = ledger.export_prefix(project.id, export.id)
        ledger.doom_owner(session, KIND, project.account_id, project.id, own)
    session.delete(export)
    tally.count(session, "exports", 1)
    ledger.doom_rows(session, project.account_id, project.id)
    session.flush()


def run(components: Components, claim: rows.Claim) -> None:
    """Job: write the archive of the export that is the claim's subject.

    Raises:
        Stale: The job is no longer this worker's.
        Cancelled: The export is gone.
        OwnVisionError: It can't be exported; the message is for the person.
    """
    while True:
        with components.database.read() as session:
            export = session.get(Export, claim.subject)
            iteration = None if export is None else session.get(Iteration, export.iteration_id)
            if export is None or iteration is None:
                raise rows.Cancelled(claim.job_id)
            tags = iterations.learned_tags(session, iteration.id)
        archive_id = export.archive_id if export.status == EXPORTING else claim.job_id
        archive = _archive(components, claim, iteration, tags, export.flavor or None)
        outputs.write(components, claim, ledger.export_prefix(claim.project_id, archive_id), KIND, ARCHIVE, archive)
        if _put_in_place(components, claim, archive_id, iteration.model_id):
            return


def _archive(
    components: Components, claim: rows.Claim, iteration: Iteration, tags: Sequence[IterationTag], flavor: str | None
) -> bytes:
    from ownvision.exporters import onnx

    try:
        model = models.read(components, iteration)
    except (BlobMissing, BlobDamaged):
        raise OwnVisionError(
            "ErrorExporterInvalidClassifier", f"The model of {iteration.name} can't be read; train again."
        ) from None
    rows.heartbeat(components.database, claim, 0.3, components.settings.job_lease)
    try:
        return onnx.archive(
            model,
            labels=[onnx.Label(tag.tag_id, tag.name, tag.type) for tag in tags],
            domain=DOMAINS[iteration.domain_id],
            multilabel=iteration.classification_type == "Multilabel",
            iteration_id=iteration.id,
            flavor=flavor,
            exported=now(),
        )
    except ValueError as error:
        raise OwnVisionError("ErrorExporterInvalidClassifier", str(error)) from None


def _put_in_place(components: Components, claim: rows.Claim, archive_id: str, model_id: str) -> bool:
    """The last transaction; False when the model was replaced since it was read: then all must be done anew."""
    with components.database.write() as session:
        session.get(Project, claim.project_id, with_for_update=True)
        outputs.hold(session, claim)
        row = session.get(Export, claim.subject)
        iteration = None if row is None else session.get(Iteration, row.iteration_id)
        if row is None or iteration is None:
            raise rows.Cancelled(claim.job_id)
        if iteration.model_id != model_id:
            return False
        ledger.make_live(session, [ledger.export_prefix(claim.project_id, archive_id)])
        ledger.arrived(session, claim.project_id, row.id)
        if row.archive_id != archive_id:
            old = ledger.export_prefix(claim.project_id, row.archive_id)
            ledger.doom_replaced(session, ledger.ARCHIVE, old)
        row.status, row.error, row.archive_id = DONE, None, archive_id
        notices.export_ended(session, claim.project_id, row, claim.payload.get("base_url", ""))
        rows.finish(session, claim)
    return True


def remake(session: Session, project: Project, iteration_id: str, receipts: Sequence[str]) -> None:
    """Make the archives of an iteration anew, since its model was replaced; until then the old ones are given.

    Args:
        session: The transaction that replaces the model.
        project: Whose it is.
        iteration_id: Of which iteration.
        receipts: Ids of receipts that are finished only then.
    """
    for export in session.scalars(select(Export).where(Export.iteration_id == iteration_id, Export.status != FAILED)):
        payload = session.scalar(
            select(Job.payload).where(Job.kind == KIND, Job.subject == export.id).order_by(Job.created.desc()).limit(1)
        )
        rows.enqueue(
            session,
            kind=KIND,
            account_id=project.account_id,
            project_id=project.id,
            subject=export.id,
            lane=rows.QUICK,
            payload=payload,
        )
        ledger.wait_for(session, project.account_id, project.id, export.id, receipts)


def failed(session: Session, project_id: str, export_id: str, reason: str) -> None:
    """Record that an export has failed, and that nothing of it is kept, also where its iteration was deleted.

    One that was done was to be made anew of another model: the old model's archive must not stay.
    """
    export = session.get(Export, export_id)
    outputs.release(session, project_id, [export_id])
    ledger.arrived(session, project_id, export_id)
    if export is None:
        ledger.doom(session, [ledger.export_prefix(project_id, export_id)])
    elif export.status != FAILED:
        export.status, export.error = FAILED, reason
        notices.export_ended(session, project_id, export)
        ledger.doom(session, [ledger.export_prefix(project_id, export.archive_id)])


def _checked(iteration: Iteration, platform: str, flavor: str | None) -> tuple[str, str | None]:
    """Platform and flavor in their own spelling."""
    domain = DOMAINS[iteration.domain_id]
    if not domain.exportable:
        raise OwnVisionError(
            "BadRequestExportValidationFailed",
            f"Domain {domain.name} can't be exported; change the project to a compact domain and train again.",
        )
    offered = {name.lower(): name for name in PLATFORMS if name in domain.platforms}
    if platform.lower() not in offered:
        raise OwnVisionError(
            "BadRequestExportValidationFailed",
            f"{domain.name} has no export to {platform!r}; there is {', '.join(offered.values())}.",
        )
    name = offered[platform.lower()]
    flavors = {(one or "").lower(): one for one in PLATFORMS[name]}
    if (flavor or "").lower() not in flavors:
        known = ", ".join(one for one in PLATFORMS[name] if one)
        raise OwnVisionError(
            "BadRequestExportValidationFailed", f"{name} has no flavor {flavor!r}; leave it out or take one of {known}."
        )
    return name, flavors[(flavor or "").lower()]
