"""Errors a person can act on; each carries the code the original service gives.

The HTTP status follows from the code's prefix, as in the original (`reference/errors.md` §3).
"""

STATUS_BY_PREFIX = {"BadRequest": 400, "Unsupported": 415, "Forbidden": 403, "NotFound": 404, "Conflict": 409}


class OwnVisionError(Exception):
    """Something a caller can mend: what was wrong, where, and what to do.

    Args:
        code: The `CustomVisionErrorCodes` value, such as ``BadRequestTagName``.
        message: One or two plain sentences.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """HTTP status of the code; 500 for the ``Error…`` codes."""
        return next((status for prefix, status in STATUS_BY_PREFIX.items() if self.code.startswith(prefix)), 500)
