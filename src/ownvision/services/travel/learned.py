"""Iterations as they arrive: settings, model, scores. A model is examined and tried before anything is kept of it."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from ownvision.domains import DETECTION, DOMAINS
from ownvision.inference import load
from ownvision.services import iterations, outputs, projects, tags
from ownvision.services.fitting import MODEL
from ownvision.services.travel import tar
from ownvision.services.travel.contents import (
    JSON_BYTES,
    TEXT,
    FrozenTag,
    IterationMember,
    ScoredRow,
    ScoresMember,
    most_model_bytes,
)
from ownvision.store import ledger
from ownvision.store.tables import Iteration, IterationTag, Lineage, Project, ScoredImage

if TYPE_CHECKING:
    from ownvision.services.travel.arriving import Arrival

_KINDS = ("Regular", "Advanced")
# Of a tag, and of a whole iteration, in the wire's order.
FIGURES = ("precision", "precisionStdDeviation", "recall", "recallStdDeviation", "averagePrecision")


def take(arrival: "Arrival", number: int) -> None:
    """Read one iteration off the archive into the project.

    Raises:
        Damaged: It can't be one of the project's.
    """
    told = arrival.member(f"iterations/{number}.json", IterationMember, JSON_BYTES)
    if told.number != number or (arrival.numbers and number <= max(arrival.numbers)):
        raise tar.Damaged(f"Iteration {number} is out of its order.")
    arrival.count("iterations")
    trained = _check(arrival, told)
    iteration_id = arrival.names.iteration(number)
    prefix = ledger.iteration_prefix(arrival.claim.project_id, iteration_id)
    written = []
    if told.performance is None:
        model = _usable(arrival, told, trained)
        outputs.write(arrival.components, arrival.claim, prefix, "iteration", MODEL, model)
        written = [prefix]

    def record(session: Session, project: Project) -> None:
        session.add(_row(arrival, told, project, iteration_id))
        session.flush()
        frozen = [
            {
                "iteration_id": iteration_id,
                "tag_id": arrival.tags[tag.id],
                "position": tag.position,
                "name": tag.name,
                "description": tag.description,
                "type": tag.type,
                "image_count": 0,  # counted at the end
            }
            for tag in told.tags
        ]
        if frozen:
            session.execute(insert(IterationTag), frozen)
        ledger.make_live(session, written)

    arrival.written(record)
    arrival.numbers[number] = iteration_id
    page = 0
    while arrival.archive.name() == f"iterations/{number}-{page:06}.json":
        _scores(arrival, told, iteration_id, len(trained), page)
        page += 1


def _check(arrival: "Arrival", told: IterationMember) -> list[FrozenTag]:
    """The tags that the iteration learned, in the order of its model's output (or of its scores)."""
    limits, quota = arrival.components.settings.limits, arrival.tier.iterations_per_project
    what = f"Iteration {told.number}"
    if quota is not None and len(arrival.numbers) >= quota:
        raise tar.Damaged(f"This tier allows {quota} iterations per project, and it has more.")
    if not told.name.strip() or len(told.name) > limits.name_characters:
        raise tar.Damaged(f"{what} has no name of 1 to {limits.name_characters} characters.")
    domain = DOMAINS.get(told.domain_id)
    if domain is None or (domain.type == DETECTION) != arrival.detection:
        raise tar.Damaged(f"{what} was trained for a domain that is not here, or not for this kind of project.")
    if told.classification_type not in projects.CLASSIFIERS or told.training_type not in _KINDS:
        raise tar.Damaged(f"{what} was trained in a way that is not known here.")
    if told.revision > arrival.head.revision:
        raise tar.Damaged(f"{what} froze revision {told.revision}, which is not the project's.")
    ids = [tag.id for tag in told.tags]
    if len(set(ids)) != len(ids) or not {*ids, *told.selected_tags} <= set(arrival.tags):
        raise tar.Damaged(f"{what} names a tag twice, or one that is not the project's.")
    if any(tag.type not in tags.TYPES or len(tag.name) > limits.name_characters for tag in told.tags):
        raise tar.Damaged(f"{what} has a tag that can't be one here.")
    trained = sorted((tag for tag in told.tags if tag.position is not None), key=lambda tag: tag.position or 0)
    if (not trained and told.performance is None) or [tag.position for tag in trained] != list(range(len(trained))):
        raise tar.Damaged(f"{what} does not say which tags its model knows.")
    return trained


def _origin(arrival: "Arrival", told: IterationMember) -> dict[str, Any] | None:
    """What another service measured, with the ids that the tags have here; None: the iteration has its model.

    Only what `IterationPerformance` has is taken: a sender's further words would be shown to callers.
    """
    if told.performance is None:
        return None
    known = {tag.id for tag in told.tags}
    try:
        rows = [
            {"id": arrival.tags[row["id"]], "name": str(row["name"])[:TEXT], **_figures(row)}
            for row in told.performance["perTagPerformance"]
            if row["id"] in known
        ]
        return {"performance": {"perTagPerformance": rows, **_figures(told.performance)}}
    except (KeyError, TypeError, ValueError):
        raise tar.Damaged(f"The performance of iteration {told.number} is none.") from None


def _figures(said: Mapping[str, Any]) -> dict[str, float | None]:
    figures = {name: None if said.get(name) is None else float(said[name]) for name in FIGURES}
    if any(value is not None and not 0 <= value <= 1 for value in figures.values()):
        raise ValueError("not between 0 and 1")
    return figures


def _usable(arrival: "Arrival", told: IterationMember, trained: Sequence[FrozenTag]) -> bytes:
    """The model with the ids that its tags have here, once it was seen to run."""
    from ownvision.learning.adopted import Unusable, adopted

    data = arrival.archive.read(f"iterations/{told.number}.onnx", most_model_bytes())
    task = "detection" if arrival.detection else "classification"
    ids = [tag.id for tag in trained]
    try:
        model = adopted(data, task=task, tag_ids=ids, renamed=arrival.tags)
        _try(model, len(ids))
    except Unusable as error:
        raise tar.Damaged(f"The model of iteration {told.number} can't be used: {error}") from None
    except Exception as error:  # onnxruntime raises classes of its own, and others
        raise tar.Damaged(
            f"The model of iteration {told.number} can't be used: it does not run ({type(error).__name__})."
        ) from None
    return model


def _try(model: bytes, tag_count: int) -> None:
    loaded = load(model)
    image = np.full((1, 3, loaded.height, loaded.width), 127.0, np.float32)
    names = [output.name for output in loaded.session.get_outputs()]
    for name, answer in zip(names, loaded.session.run(names, {"image": image}), strict=True):
        last = 4 if name == "boxes" else tag_count
        if answer.dtype != np.float32 or answer.shape[0] != 1 or answer.shape[-1] != last:
            raise ValueError(f"{name} has shape {answer.shape}")
        if answer.ndim != (2 if name == "probabilities" else 3) or not np.isfinite(answer).all():
            raise ValueError(f"{name} is not what a model here says")


def _row(arrival: "Arrival", told: IterationMember, project: Project, iteration_id: str) -> Iteration:
    base = arrival.numbers.get(told.custom_base or 0)
    return Iteration(
        id=iteration_id,
        project_id=project.id,
        number=told.number,
        name=told.name,
        status=iterations.COMPLETED,
        created=told.created,
        last_modified=told.last_modified,
        trained_at=told.trained_at,
        revision=told.revision,
        domain_id=told.domain_id,
        classification_type=told.classification_type,
        training_type=told.training_type,
        reserved_budget_in_hours=told.reserved_budget_in_hours,
        training_seconds=told.training_seconds,
        selected_tags=[arrival.tags[tag] for tag in told.selected_tags],
        custom_base_model=None if base is None else {"projectId": project.id, "iterationId": base},
        pipeline=told.pipeline,
        origin=_origin(arrival, told),
        search=None if told.search is None else [trial.model_dump() for trial in told.search],
        left_out=[image_id for seq in told.left_out if (image_id := arrival.image_id(seq)) is not None],
    )


def _scores(arrival: "Arrival", told: IterationMember, iteration_id: str, tag_count: int, page: int) -> None:
    arrival.check_room()
    member = arrival.member(f"iterations/{told.number}-{page:06}.json", ScoresMember, JSON_BYTES)
    if not member.scored and not member.erased:
        raise tar.Damaged("It has an empty page of scores.")
    scored = [
        {
            "iteration_id": iteration_id,
            "image_id": None if row.image is None else arrival.image_id(row.image),
            "fold": row.fold,
            **_numbers(arrival.detection, row, tag_count),
        }
        for row in member.scored
    ]
    erased = [
        {"iteration_id": iteration_id, "image_id": row.image, "receipt": row.receipt, "unlearned": row.unlearned}
        for row in member.erased
    ]

    def record(session: Session, _: Project) -> None:
        if scored:
            session.execute(insert(ScoredImage), scored)
        if erased:
            session.execute(insert(Lineage), erased)

    arrival.written(record)
    arrival.report()


def _numbers(detection: bool, row: ScoredRow, tag_count: int) -> dict[str, bytes]:
    """Scores and truth, seen to be what `ScoredImage` keeps."""
    try:
        scores, truth = (base64.b64decode(text, validate=True) for text in (row.scores, row.truth))
        if not detection:
            said, true = np.frombuffer(scores, "<f4"), np.frombuffer(truth, np.uint8)
            right = len(said) == len(true) == tag_count and true.max(initial=0) <= 1
        else:
            said = np.frombuffer(scores, "<f4").reshape(-1, 6)
            true = np.frombuffer(truth, "<f4").reshape(-1, 5)
            places = np.concatenate([said[:, 0], true[:, 0]])
            right = bool(np.isin(places, np.arange(tag_count)).all() and np.isfinite(true).all())
    except (binascii.Error, ValueError):
        right = False
    if not right or not np.isfinite(said).all():
        raise tar.Damaged("It has scores that are none.")
    return {"scores": scores, "truth": truth}
