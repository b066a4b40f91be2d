"""Erasing images in tests of what their models become: as the operation does it, in one transaction."""

from collections.abc import Sequence

from sqlalchemy import select, update

from ownvision.data_rights import erasure, policies
from ownvision.data_rights.who import OPERATOR, Who
from ownvision.services import projects
from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.store import ledger
from ownvision.store.tables import Iteration, Job, Project, Receipt
from tests.services import trained as t


def erase(house: Components, project: Project, image_ids: Sequence[str], *, everywhere: bool = True) -> Receipt:
    """Erase images, by the operator."""
    who = Who(project.account_id, OPERATOR)
    with house.database.write() as session:
        receipt = erasure.erase_images(session, who, project.id, image_ids, all_iterations=everywhere)
    erasure.after_commit(house, receipt)
    return receipt


def completed(house: Components, project: Project, **wishes: object) -> Iteration:
    """An iteration that counts as trained, without a model."""
    iteration = t.start(house, project, force=True, **wishes)
    with house.database.write() as session:
        session.execute(update(Job).where(Job.subject == iteration.id).values(state="done"))
        session.get_one(Iteration, iteration.id).status = "Completed"
    return iteration


def pretended(house: Components, project: Project) -> Iteration:
    """An iteration that counts as trained, with a file in the place of its model."""
    iteration = completed(house, project)
    prefix = ledger.iteration_prefix(project.id, iteration.model_id)
    ledger.reserve(house.database, [(prefix, "iteration", project.account_id, project.id)])
    house.blobs.put_new(prefix + MODEL, b"an old model")
    with house.database.write() as session:
        ledger.make_live(session, [prefix])
    return iteration


def choose(house: Components, project: Project, policy: str) -> None:
    """Set a project's policy."""
    with house.database.write() as session:
        policies.choose(projects.get(session, project.account_id, project.id, lock=True), policy)


def publish(house: Components, project: Project, iteration: Iteration, name: str) -> None:
    """Give an iteration a publish name, without the checks of the operation."""
    with house.database.write() as session:
        row = session.get_one(Iteration, iteration.id)
        row.publish_name, row.publish_resource_id = name, "here"


def now_of(house: Components, iteration: Iteration) -> Iteration:
    """The iteration's row as it is now."""
    with house.database.read() as session:
        return session.get_one(Iteration, iteration.id)


def queued(house: Components, kind: str) -> list[Job]:
    """Jobs of a kind that wait."""
    with house.database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == kind, Job.state == "queued")))
