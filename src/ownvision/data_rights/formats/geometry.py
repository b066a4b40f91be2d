"""Boxes of strangers made boxes of ours: relative, in order, inside their picture."""

import math

from ownvision.data_rights.formats import Box
from ownvision.data_rights.formats.report import Report

OUTSIDE = "box that lies outside its picture or has no size: left out"
CUT = "box that reached out of its picture: cut at the edge"
UNREADABLE = "box whose numbers can't be used: left out"
_ROUNDING = 1e-4  # as the service takes for rounding in a sender's floats


def between(
    tag: str, edges: tuple[float, float, float, float], size: tuple[float, float], report: Report, where: str
) -> Box | None:
    """The box between left, top, right and bottom in a picture of that size, in the same unit; None if there is none.

    Sides that are the wrong way round are put in order; what reaches out is cut.
    """
    if not all(map(math.isfinite, edges)) or min(size) <= 0:
        report.remark(UNREADABLE, where)
        return None
    left, right = sorted((edges[0] / size[0], edges[2] / size[0]))
    top, bottom = sorted((edges[1] / size[1], edges[3] / size[1]))
    inside = [min(max(value, 0.0), 1.0) for value in (left, top, right, bottom)]
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        report.remark(OUTSIDE, where)
        return None
    if min(left, top) < -_ROUNDING or max(right, bottom) > 1 + _ROUNDING:
        report.remark(CUT, where)
    # A rounding step of a sum must not lead over the edge again.
    width, height = min(inside[2] - inside[0], 1 - inside[0]), min(inside[3] - inside[1], 1 - inside[1])
    return Box(tag, inside[0], inside[1], width, height)


def cornered(
    tag: str, corner: tuple[float, float, float, float], size: tuple[float, float], report: Report, where: str
) -> Box | None:
    """As `between`, of left, top, width and height; exact where nothing need be mended."""
    left, top, width, height = corner
    if min(size) > 0 and width > 0 and height > 0 and left >= 0 and top >= 0 and all(map(math.isfinite, corner)):
        box = Box(tag, left / size[0], top / size[1], width / size[0], height / size[1])
        if box.left + box.width <= 1 and box.top + box.height <= 1:
            return box
    if width < 0 or height < 0:
        report.remark(UNREADABLE, where)
        return None
    return between(tag, (left, top, left + width, top + height), size, report, where)
