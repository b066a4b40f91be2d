"""Reading an iteration's model, which may be replaced by one that was fitted anew between looking and reading."""

from sqlalchemy import select

from ownvision.services.components import Components
from ownvision.services.fitting import MODEL
from ownvision.store import ledger
from ownvision.store.blobs import BlobMissing
from ownvision.store.tables import Iteration


def read(components: Components, iteration: Iteration) -> bytes:
    """The ONNX file of a completed iteration; of the newest model where the row is out of date.

    Raises:
        BlobMissing: It is gone.
        BlobDamaged: It can't be opened.
        KeyMissing: Its project is being erased.
    """
    try:
        return components.blobs.read(ledger.iteration_prefix(iteration.project_id, iteration.model_id) + MODEL)
    except BlobMissing:
        with components.database.read() as session:
            newest = session.scalar(select(Iteration.model_id).where(Iteration.id == iteration.id))
        if newest is None or newest == iteration.model_id:
            raise
        return components.blobs.read(ledger.iteration_prefix(iteration.project_id, newest) + MODEL)
