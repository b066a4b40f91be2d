"""The iteration that a training goes on from (`customBaseModelInfo`): its model, and the images that it knows.

What it knows is not new to the training that starts with it: only other images can tell how good the result is. A base
that has learned from images which were erased or restricted since is not gone on from, so that nothing of them comes
back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from ownvision.services.components import Components
from ownvision.services.frozen import Frozen, freeze, left_out
from ownvision.store.blobs import BlobDamaged, BlobMissing
from ownvision.store.keys import KeyMissing
from ownvision.store.tables import Iteration

_MOST = 100  # generations, if a chain of bases ever were a ring


@dataclass(frozen=True)
class Base:
    """A base iteration.

    Attributes:
        model: Its ONNX file; None: it is not gone on from.
        known: SHA-256, hexadecimal, of the images that it, or what it came from, has learned from.
        reason: Why there is no model.
    """

    model: bytes | None
    known: frozenset[str]
    reason: str = ""

    def unseen(self, frozen: Frozen) -> NDArray[np.bool_]:
        """bool [N]: which images of a training set it does not know."""
        return np.array([image.sha256 not in self.known for image in frozen.images], bool)


def find(components: Components, session: Session, iteration: Iteration) -> Base | None:
    """The base that an iteration asks for; None where it asks for none."""
    from ownvision.services import models  # which reads what `fitting` writes, and that reads this

    chain = ancestors(session, iteration)
    if iteration.custom_base_model is None:
        return None
    if not chain:
        return Base(None, frozenset(), "the base iteration was deleted.")
    for one in chain:
        if one.erased_count or set(left_out(session, one)) - set(one.left_out):
            reason = f"{one.name} has learned from images that were erased or restricted since; refit it first."
            return Base(None, frozenset(), reason)
    try:
        model = models.read(components, chain[0])
    except (BlobMissing, BlobDamaged, KeyMissing):
        return Base(None, frozenset(), f"the model of {chain[0].name} can't be read; `ownvision doctor` says why.")
    return Base(model, frozenset(image.sha256 for one in chain for image in freeze(session, one).images))


def ancestors(session: Session, iteration: Iteration) -> list[Iteration]:
    """What an iteration came from, the nearest first, as far as it is still there."""
    found: list[Iteration] = []
    while iteration.custom_base_model is not None and len(found) < _MOST:
        base = session.get(Iteration, iteration.custom_base_model["iterationId"])
        if base is None:
            break
        found.append(base)
        iteration = base
    return found
