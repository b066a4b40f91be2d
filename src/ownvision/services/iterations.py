"""Iterations: look at, rename, publish, delete. `training` makes them."""

from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.orm import Session

from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.limits import Limits
from ownvision.services import coverage, outputs, projects
from ownvision.store import ledger, tally
from ownvision.store.tables import (
    Account,
    Export,
    Iteration,
    IterationTag,
    Lineage,
    Prediction,
    Project,
    ScoredImage,
    Suggestion,
)
from ownvision.store.tables.base import now

COMPLETED = "Completed"


def all(session: Session, project: Project) -> list[Iteration]:
    """A project's iterations, trained, in training or failed, newest first."""
    return list(
        session.scalars(select(Iteration).where(Iteration.project_id == project.id).order_by(Iteration.number.desc()))
    )


def get(session: Session, project: Project, iteration_id: str) -> Iteration:
    """One iteration.

    Raises:
        OwnVisionError: NotFoundIteration.
    """
    iteration = session.scalar(
        select(Iteration).where(Iteration.id == iteration_id, Iteration.project_id == project.id)
    )
    if iteration is None:
        raise OwnVisionError("NotFoundIteration", f"There is no iteration {iteration_id} in project {project.id}.")
    return iteration


def trained(session: Session, project: Project, iteration_id: str) -> Iteration:
    """One iteration that is completed.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = get(session, project, iteration_id)
    if iteration.status != COMPLETED:
        raise OwnVisionError(
            "BadRequestIterationIsNotTrained", f"{iteration.name} is not trained; its status is {iteration.status}."
        )
    return iteration


def with_model(session: Session, project: Project, iteration_id: str) -> Iteration:
    """One iteration that is completed and has its model here.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained.
    """
    iteration = trained(session, project, iteration_id)
    check_model(iteration)
    return iteration


def check_model(iteration: Iteration) -> None:
    """Refuse an iteration that was copied from another service, which gave no model.

    Raises:
        OwnVisionError: BadRequestIterationIsNotTrained.
    """
    if iteration.origin is not None:
        raise OwnVisionError(
            "BadRequestIterationIsNotTrained",
            f"{iteration.name} was copied from another service without its model: it is there to be read. "
            "Train the project; the new iteration has a model.",
        )


def learned_tags(session: Session, iteration_id: str) -> list[IterationTag]:
    """The tags an iteration learned, in the order of its model's output."""
    return list(
        session.scalars(
            select(IterationTag)
            .where(IterationTag.iteration_id == iteration_id, IterationTag.position.is_not(None))
            .order_by(IterationTag.position)
        )
    )


def that_learned(session: Session, project: Project, tag_id: str) -> list[Iteration]:
    """The iterations that have a tag as it was when they were trained."""
    return list(
        session.scalars(
            select(Iteration)
            .join(IterationTag, IterationTag.iteration_id == Iteration.id)
            .where(Iteration.project_id == project.id, IterationTag.tag_id == tag_id)
        )
    )


def update(
    session: Session, project: Project, iteration_id: str, *, name: str | None, default: bool | None, limits: Limits
) -> Iteration:
    """Give an iteration another name, or make it the project's default; a `default` of None leaves that as it is.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestWorkspaceCannotBeModified, BadRequestIterationName,
            BadRequestIterationNameNotUnique, BadRequestIterationIsNotTrained.
    """
    if iteration_id == projects.workspace_id(project.id):
        raise OwnVisionError("BadRequestWorkspaceCannotBeModified", "This is the workspace; train it first.")
    iteration = get(session, project, iteration_id)
    if default is None or name is not None:
        _rename(session, project, iteration, name or "", limits)
    if default is not None and default != iteration.is_default:
        if default and iteration.status != COMPLETED:
            raise OwnVisionError(
                "BadRequestIterationIsNotTrained",
                f"{iteration.name} is {iteration.status}; only a trained one predicts.",
            )
        if default:
            check_model(iteration)
            for other in session.scalars(
                select(Iteration).where(Iteration.project_id == project.id, Iteration.is_default)
            ):
                other.is_default = False
            session.flush()  # before the new one: only one may be
        iteration.is_default = default
    iteration.last_modified = now()
    session.flush()
    return iteration


def _rename(session: Session, project: Project, iteration: Iteration, name: str, limits: Limits) -> None:
    if not name.strip() or len(name) > limits.name_characters:
        raise OwnVisionError(
            "BadRequestIterationName", f"An iteration needs a name of 1 to {limits.name_characters} characters."
        )
    taken = session.scalar(select(Iteration.id).where(Iteration.project_id == project.id, Iteration.name == name))
    if taken not in (None, iteration.id):
        raise OwnVisionError("BadRequestIterationNameNotUnique", f"Another iteration is named {name!r}.")
    iteration.name = name


def default(session: Session, project: Project) -> Iteration:
    """The iteration that predicts when none is asked for.

    Raises:
        OwnVisionError: NotFoundProjectDefaultIteration.
    """
    iteration = session.scalar(select(Iteration).where(Iteration.project_id == project.id, Iteration.is_default))
    if iteration is None:
        raise OwnVisionError(
            "NotFoundProjectDefaultIteration",
            "The project has no default iteration; make one so with UpdateIteration (isDefault), or give iterationId.",
        )
    return iteration


def delete(session: Session, project: Project, iteration_id: str) -> None:
    """Delete an iteration: its model, scores, exports and stored predictions, and what only it still covered.

    A training under way is cancelled.

    Raises:
        OwnVisionError: NotFoundIteration; BadRequestWorkspaceNotDeletable; BadRequestIterationIsPublished, while it is
            published.
    """
    if iteration_id == projects.workspace_id(project.id):
        raise OwnVisionError("BadRequestWorkspaceNotDeletable", "This is the workspace; delete its images instead.")
    iteration = get(session, project, iteration_id)
    if iteration.publish_name is not None:
        raise OwnVisionError(
            "BadRequestIterationIsPublished",
            f"Iteration is already published as: {iteration.publish_name}. Unpublish it before deleting it.",
        )
    exports = list(session.scalars(select(Export).where(Export.iteration_id == iteration.id)))
    predictions = list(session.scalars(select(Prediction.id).where(Prediction.iteration_id == iteration.id)))
    about = [iteration.id, *(export.id for export in exports)]
    tally.count(session, "jobsCancelled", len(rows.stop(session, about)))
    outputs.release(session, project.id, about)
    for subject in about:
        ledger.arrived(session, project.id, subject)
    ledger.doom(
        session,
        [
            ledger.iteration_prefix(project.id, iteration.model_id),
            *(ledger.export_prefix(project.id, export.archive_id) for export in exports),
            *(ledger.prediction_prefix(project.id, prediction_id) for prediction_id in predictions),
        ],
    )
    if iteration.model_id != iteration.id:
        own = ledger.iteration_prefix(project.id, iteration.id)
        ledger.doom_owner(session, "iteration", project.account_id, project.id, own)
    _remove(session, iteration)
    ledger.doom_rows(session, project.account_id, project.id)
    session.flush()
    coverage.release(session, project.id)


def _remove(session: Session, iteration: Iteration) -> None:
    """Delete its row and all that hangs on it, counted by kind."""
    for kind, table in (
        ("predictions", Prediction),
        ("exports", Export),
        ("suggestions", Suggestion),
        ("scores", ScoredImage),
        ("lineage", Lineage),
        ("iterationTags", IterationTag),
    ):
        gone = session.execute(
            sql_delete(table).where(table.iteration_id == iteration.id).execution_options(synchronize_session=False)
        )
        tally.count(session, kind, gone.rowcount)  # type: ignore[attr-defined]
    session.delete(iteration)
    tally.count(session, "iterations", 1)


def publish(
    session: Session,
    project: Project,
    iteration_id: str,
    name: str,
    resource_id: str,
    overwrite: bool,
    limits: Limits,
) -> bool:
    """Let the prediction API answer to `name` with this iteration; with `overwrite` a taken name moves to it.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationIsNotTrained, BadRequestIterationIsPublished,
            BadRequestInvalidPublishName, BadRequestInvalidPublishTarget.
    """
    iteration = with_model(session, project, iteration_id)
    _check_publish_name(name, limits)
    target = session.get_one(Account, project.account_id).prediction_resource_id
    if resource_id.strip().rstrip("/").lower() != target.lower():
        raise OwnVisionError(
            "BadRequestInvalidPublishTarget",
            "predictionId is not this account's prediction resource; "
            "`ownvision account show` prints it as predictionResourceId.",
        )
    if iteration.publish_name is not None and not (overwrite and iteration.publish_name == name):
        raise OwnVisionError(
            "BadRequestIterationIsPublished", f"Iteration is already published as: {iteration.publish_name}"
        )
    holder = session.scalar(
        select(Iteration).where(
            Iteration.project_id == project.id, Iteration.publish_name == name, Iteration.id != iteration.id
        )
    )
    if holder is not None:
        if not overwrite:
            raise OwnVisionError(
                "BadRequestInvalidPublishName",
                f"{holder.name} is published as {name!r}; take another name, or publish with overwrite=true.",
            )
        _withdraw(session, holder)
    iteration.publish_name, iteration.publish_resource_id = name, target
    iteration.last_modified = now()
    session.flush()
    return True


def unpublish(session: Session, project: Project, iteration_id: str) -> None:
    """Free an iteration's publish name.

    Raises:
        OwnVisionError: NotFoundIteration, BadRequestIterationNotPublished.
    """
    iteration = get(session, project, iteration_id)
    if iteration.publish_name is None:
        raise OwnVisionError("BadRequestIterationNotPublished", f"{iteration.name} is not published.")
    _withdraw(session, iteration)


def published(session: Session, project: Project, name: str) -> Iteration:
    """The iteration that answers to a publish name.

    Raises:
        OwnVisionError: NotFoundIteration, with the original's words.
    """
    iteration = session.scalar(
        select(Iteration).where(Iteration.project_id == project.id, Iteration.publish_name == name)
    )
    if iteration is None:
        raise OwnVisionError("NotFoundIteration", "Invalid iteration")
    return iteration


def withdraw(session: Session, iteration: Iteration) -> None:
    """Let the prediction API answer with an iteration no more, neither by a name nor by default."""
    iteration.is_default = False
    _withdraw(session, iteration)


def _withdraw(session: Session, iteration: Iteration) -> None:
    iteration.publish_name = iteration.publish_resource_id = None
    iteration.last_modified = now()
    session.flush()  # before the name goes to another: it is unique


def _check_publish_name(name: str, limits: Limits) -> None:
    if not name.strip() or len(name) > limits.name_characters or not name.isprintable():
        raise OwnVisionError(
            "BadRequestInvalidPublishName",
            f"A publish name has 1 to {limits.name_characters} printable characters.",
        )


def searched(iteration: Iteration) -> dict[str, Any]:
    """What an iteration's training tried, as the API and the command show it."""
    return {
        "iterationId": iteration.id,
        "trainingType": iteration.training_type,
        "budgetHours": iteration.reserved_budget_in_hours,
        "seconds": float(iteration.training_seconds),
        "trials": iteration.search or [],
    }
