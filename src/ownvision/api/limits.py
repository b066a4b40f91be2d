"""Rates: calls per second and key, for accounts of a tier that has them."""

import threading
import time
from collections import defaultdict, deque

from ownvision.api.errors import too_many
from ownvision.limits import TIERS
from ownvision.wire.versions import PREDICTION, Version

_WINDOW = 1.0  # seconds


class Rates:
    """When each key called, over the last second, by kind of call."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def check(self, key_id: str, tier_name: str, operation: str, version: Version) -> None:
        """Count a call.

        Raises:
            Refused: 429 with ``Retry-After``, when the tier's rate is used up; the call is not counted then.
        """
        tier = TIERS[tier_name]
        kind = _kind(operation, version)
        allowed = {
            "stored": tier.predict_stored_per_second,
            "nostore": tier.predict_per_second,
            "train": tier.train_per_second,
            "other": tier.calls_per_second,
        }[kind]
        if allowed is None:
            return
        moment = time.monotonic()
        with self._lock:
            calls = self._calls[key_id, kind]
            while calls and calls[0] <= moment - _WINDOW:
                calls.popleft()
            if len(calls) >= allowed:
                raise too_many(operation, version, tier_name, 1)
            calls.append(moment)


def _kind(operation: str, version: Version) -> str:
    if version.api == PREDICTION:
        return "nostore" if operation.endswith("NoStore") else "stored"
    return "train" if operation == "TrainProject" else "other"
