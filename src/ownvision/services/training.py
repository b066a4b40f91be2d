"""Training: what is refused, and what is frozen and queued. The job itself is `fitting`."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from ownvision.domains import DOMAINS
from ownvision.errors import OwnVisionError
from ownvision.jobs import rows
from ownvision.learning.backbones import BACKBONES
from ownvision.limits import Limits, Tier
from ownvision.services import iterations, notices, projects, tags
from ownvision.services.frozen import left_out
from ownvision.store.tables import Image, ImageTag, Iteration, IterationTag, Lineage, Project, Region, Tag
from ownvision.store.tables.base import new_id, now

RECIPE = "1"
TRAINING, COMPLETED = "Training", "Completed"
INSTALL_TRAIN = (
    'Training a detector needs the extra "train": pip install "ownvision[train]" (for the CPU build of torch, which '
    "is far smaller: pip install torch --index-url https://download.pytorch.org/whl/cpu first)."
)


def start(
    session: Session,
    project: Project,
    *,
    training_type: str | None,
    budget_hours: int,
    force: bool,
    selected_tags: Sequence[str],
    custom_base: Mapping[str, Any] | None,
    limits: Limits,
    tier: Tier,
    email: str | None,
) -> Iteration:
    """Freeze the workspace of a locked project as a new iteration and queue its training.

    Raises:
        OwnVisionError: The refusals of TrainProject, with the original's codes.
    """
    kind = _training_type(training_type, budget_hours)
    if email is not None:
        notices.check_email(email)
    made = iterations.all(session, project)
    if any(iteration.status == TRAINING for iteration in made):
        raise OwnVisionError(
            "BadRequestTrainingAlreadyInProgress", "The project is being trained; wait until that ends, or cancel it."
        )
    quota = tier.iterations_per_project
    if quota is not None and len(made) >= quota:
        raise OwnVisionError(
            "BadRequestExceedIterationPerProjectLimit", f"This tier allows {quota} iterations per project; delete one."
        )
    all_tags = list(session.scalars(select(Tag).where(Tag.project_id == project.id).order_by(Tag.id)))
    chosen = _chosen(all_tags, selected_tags)
    base = _custom_base(session, project, custom_base)
    check_enough(session, project, chosen, usable(session, project, chosen), limits)
    iteration = Iteration(
        id=new_id(),
        project_id=project.id,
        status=TRAINING,
        revision=project.revision,
        domain_id=project.domain_id,
        classification_type=project.classification_type,
        training_type=kind,
        reserved_budget_in_hours=budget_hours,
        selected_tags=[tag.id for tag in chosen],
        custom_base_model=base,
        pipeline=pipeline(project.domain_id, project.augmentation),
        image_count=project.image_count,
        tagged_count=project.tagged_count,
    )
    if not force:
        _check_changed(session, made, project, iteration, all_tags)
    project.iterations_made += 1
    iteration.number = project.iterations_made
    iteration.name = _free_name(iteration.number, {other.name for other in made})
    session.add(iteration)
    session.flush()
    positions = {tag.id: position for position, tag in enumerate(chosen)}
    session.add_all(
        IterationTag(
            iteration_id=iteration.id,
            tag_id=tag.id,
            position=positions.get(tag.id),
            name=tag.name,
            description=tag.description,
            type=tag.type,
            image_count=tag.image_count,
        )
        for tag in all_tags
    )
    rows.enqueue(
        session,
        kind="train",
        account_id=project.account_id,
        project_id=project.id,
        subject=iteration.id,
        lane=rows.TRAINING,
        payload={"augmentation": dict(project.augmentation)},
    )
    project.last_modified = now()
    session.flush()
    return iteration


def refusal(session: Session, project: Project, limits: Limits) -> str | None:
    """Why the workspace as it is could not be trained; None when nothing stands in the way."""
    chosen = list(session.scalars(select(Tag).where(Tag.project_id == project.id).order_by(Tag.name)))
    try:
        check_enough(session, project, chosen, usable(session, project, chosen), limits)
    except OwnVisionError as error:
        return error.message
    return None


def pipeline(domain_id: str, augmentation: Mapping[str, Any]) -> str:
    """Names recipe, backbone and preprocessing, and after a bar the settings that training reads.

    Another one would give another model from the same data.
    """
    settings = hashlib.sha256(json.dumps(dict(augmentation), sort_keys=True).encode()).hexdigest()[:8]
    return f"{RECIPE}/{BACKBONES[DOMAINS[domain_id].backbone].version}|{settings}"


def _training_type(wanted: str | None, budget_hours: int) -> str:
    kind = {"regular": "Regular", "advanced": "Advanced"}.get((wanted or "Regular").lower())
    if kind is None:
        raise OwnVisionError("BadRequest", f"trainingType is Regular or Advanced, not {wanted!r}.")
    if kind == "Advanced" and budget_hours < 1:
        raise OwnVisionError(
            "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining",
            "Advanced training needs reservedBudgetInHours of at least 1.",
        )
    return kind


def _free_name(number: int, taken: set[str]) -> str:
    name = f"Iteration {number}"
    return name if name not in taken else f"{name} ({number})"


def _chosen(all_tags: Sequence[Tag], selected: Sequence[str]) -> list[Tag]:
    unknown = sorted(set(selected) - {tag.id for tag in all_tags})
    if unknown:
        raise OwnVisionError(
            "BadRequestInvalidIds", f"selectedTags names {unknown[0]}, which is no tag of this project."
        )
    # By name, so that the same data gives the same model, whatever ids its tags have.
    return sorted((tag for tag in all_tags if not selected or tag.id in selected), key=lambda tag: tag.name)


def _custom_base(session: Session, project: Project, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    other = projects.get(session, project.account_id, given["projectId"])
    base = iterations.get(session, other, given["iterationId"])
    if base.status != COMPLETED:
        raise OwnVisionError(
            "BadRequestCustomBaseModelIterationStatusNotCompleted", f"{base.name} is {base.status}, not Completed."
        )
    iterations.check_model(base)
    if DOMAINS[base.domain_id] != DOMAINS[project.domain_id]:
        raise OwnVisionError(
            "BadRequestCustomBaseModelDomainNotCompatible",
            f"{base.name} was trained on domain {DOMAINS[base.domain_id].name}, which is not this project's.",
        )
    return {"projectId": other.id, "iterationId": base.id}


def usable(session: Session, project: Project, chosen: Sequence[Tag]) -> dict[str, int]:
    """How many images of each tag there are to learn from: all but the restricted ones."""
    restricted = session.execute(
        select(ImageTag.tag_id, func.count())
        .join(Image, Image.seq == ImageTag.image_seq)
        .where(Image.project_id == project.id, Image.restricted.is_not(None), ImageTag.until.is_(None))
        .group_by(ImageTag.tag_id)
    ).all()
    less = {row[0]: row[1] for row in restricted}
    return {tag.id: tag.image_count - less.get(tag.id, 0) for tag in chosen}


def check_enough(
    session: Session, project: Project, chosen: Sequence[Tag], usable: Mapping[str, int], limits: Limits
) -> None:
    """Refuse to learn these tags where there is too little to learn them from.

    Args:
        session: Of a transaction.
        project: Whose workspace it is.
        chosen: The tags.
        usable: How many images there are of each, by id.
        limits: For how many there must be.

    Raises:
        OwnVisionError: BadRequest…TrainingValidationFailed, BadRequestDetectionTrainingNotAllowNegativeTag,
            BadRequestNotSupported.
    """
    if projects.is_detection(project):
        _check_enough_regions(chosen, usable, limits)
        return
    regular = [tag for tag in chosen if tag.type == tags.REGULAR]
    multiclass = project.classification_type == "Multiclass"
    code = f"BadRequestMulti{'Class' if multiclass else 'Label'}ClassificationTrainingValidationFailed"
    least = limits.classification_images_per_tag
    if not regular or (multiclass and len(chosen) < 2):
        needed = "two tags, or one and the Negative tag," if multiclass else "one tag that is not Negative"
        raise OwnVisionError(code, f"Not enough tags for training: at least {needed} with {least} images each.")
    for tag in chosen:
        if usable[tag.id] < least:
            raise OwnVisionError(
                code,
                f"Not enough images for training: tag {tag.name!r} has {usable[tag.id]}, each tag needs {least}.",
            )
    if multiclass:
        several = session.scalar(
            select(ImageTag.image_seq)
            .where(
                ImageTag.project_id == project.id,
                ImageTag.until.is_(None),
                ImageTag.tag_id.in_([tag.id for tag in chosen]),
            )
            .group_by(ImageTag.image_seq)
            .having(func.count() > 1)
            .limit(1)
        )
        if several is not None:
            image_id = session.scalar(select(Image.id).where(Image.seq == several))
            raise OwnVisionError(code, f"A multiclass project takes one tag per image; image {image_id} has several.")


def _check_enough_regions(chosen: Sequence[Tag], usable: Mapping[str, int], limits: Limits) -> None:
    least = limits.detection_images_per_tag
    if not chosen:
        raise OwnVisionError(
            "BadRequestDetectionTrainingValidationFailed", "Not enough tags for training: there is none."
        )
    for tag in chosen:
        if tag.type == tags.NEGATIVE:
            raise OwnVisionError(
                "BadRequestDetectionTrainingNotAllowNegativeTag", "A detector is not trained with a Negative tag."
            )
        if usable[tag.id] < least:
            raise OwnVisionError(
                "BadRequestDetectionTrainingValidationFailed",
                f"Not enough images for training: tag {tag.name!r} has {usable[tag.id]}, each tag needs {least}.",
            )
    if importlib.util.find_spec("torch") is None:
        raise OwnVisionError("BadRequestNotSupported", INSTALL_TRAIN)


def _check_changed(
    session: Session, made: Sequence[Iteration], project: Project, new: Iteration, all_tags: Sequence[Tag]
) -> None:
    last = next((iteration for iteration in made if iteration.status == COMPLETED), None)
    if last is None or _wishes(last) != _wishes(new) or _data_changed(session, project, last, all_tags):
        return
    if last.pipeline == new.pipeline:
        raise OwnVisionError("BadRequestTrainingNotNeeded", "Nothing changed since last training")
    raise OwnVisionError(
        "BadRequestTrainingNotNeededButTrainingPipelineUpdated",
        "Nothing changed since last training, but training itself was improved; forceTrain=true trains again.",
    )


def _wishes(iteration: Iteration) -> tuple[object, ...]:
    return (
        iteration.domain_id,
        iteration.classification_type,
        iteration.training_type,
        iteration.reserved_budget_in_hours,
        set(iteration.selected_tags),
        iteration.custom_base_model,
        iteration.pipeline.partition("|")[2],  # settings
    )


def _data_changed(session: Session, project: Project, last: Iteration, all_tags: Sequence[Tag]) -> bool:
    """Asked of the rows: uploading the same images again makes another revision, and changes nothing."""
    if left_out(session, last) != last.left_out:  # images were restricted since, or are no longer
        return True
    if project.revision == last.revision:
        return False
    frozen = session.scalars(select(IterationTag).where(IterationTag.iteration_id == last.id))
    if {(tag.tag_id, tag.name, tag.type) for tag in frozen} != {(tag.id, tag.name, tag.type) for tag in all_tags}:
        return True
    touched = [
        exists().where(table.project_id == project.id, or_(table.since > last.revision, table.until > last.revision))
        for table in (Image, ImageTag, Region)
    ]
    erased = exists().where(Lineage.iteration_id == last.id)
    return any(session.scalar(select(one)) for one in (erased, *touched))
