"""What the detector learns from: which cells answer for which box, and how far off they are.

Assignment is task-aligned (Feng et al. 2021, TOOD, arXiv:2108.07755): the cells that already score and locate a box
best answer for it, and are to say how well they locate it. The loss is binary cross-entropy on these scores and
generalised IoU (Rezatofighi et al. 2019, arXiv:1902.09630) on the boxes.
"""

import torch
from torch import Tensor
from torch.nn import functional

# TOOD's exponents of score and overlap, its number of cells per box, and the weight of the box loss.
_SCORE_POWER, _OVERLAP_POWER, _CELLS_PER_BOX = 1.0, 6.0, 13
# Cells so many strides around a box's middle may answer for it.
_RADIUS = 2.5
BOX_WEIGHT = 2.5
_TINY = 1e-9


def corners(centres: Tensor, strides: Tensor, distances: Tensor) -> Tensor:
    """Boxes [N, K, 4] left, top, right, bottom in pixels from distances [N, K, 4] in strides of cells [K, 2], [K]."""
    pixels = distances * strides[:, None]
    return torch.cat([centres - pixels[..., :2], centres + pixels[..., 2:]], -1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes [..., 4] left, top, right, bottom that broadcast; each [...]."""
    common = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    iou = common / (union + _TINY)
    return iou, iou - (around - union) / (around + _TINY)


def assign(
    scores: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, truth: Tensor, tags: Tensor
) -> tuple[Tensor, Tensor]:
    """Which cells of one image answer for which box.

    Args:
        scores: [K, T], 0 to 1.
        boxes: [K, 4] left, top, right, bottom in pixels.
        centres: [K, 2] of the cells.
        strides: [K] of the cells.
        truth: [M, 4], M ≥ 1.
        tags: int64 [M].

    Returns:
        Index of the box each cell answers for, int64 [K], -1 for none; and the score it is to give, [K].
    """
    iou, _ = overlaps(truth[:, None], boxes[None])
    metric = scores[:, tags].T.pow(_SCORE_POWER) * iou.pow(_OVERLAP_POWER)
    eligible = _eligible(centres, strides, truth)
    # A constant below any metric that matters keeps eligible cells without overlap ahead of all others.
    ranked = (metric + 1e-12) * eligible
    best = ranked.topk(min(_CELLS_PER_BOX, ranked.shape[1]), dim=1)
    chosen = torch.zeros_like(eligible).scatter_(1, best.indices, best.values > 0)
    # A cell that two boxes claim answers for the one it overlaps more.
    claimed = torch.where(chosen, iou, -1.0)
    overlap, owner = claimed.max(0)
    owner = torch.where(overlap >= 0, owner, -1)
    mine = chosen & (owner == torch.arange(len(truth), device=owner.device)[:, None])
    metric, iou = metric * mine, iou * mine
    goal = metric / (metric.amax(1, keepdim=True) + _TINY) * iou.amax(1, keepdim=True)
    return owner, goal.amax(0)


def _eligible(centres: Tensor, strides: Tensor, truth: Tensor) -> Tensor:
    """Bool [M, K]: cells within a box and near its middle; for a box without any, the nearest one.

    Without nearness (FCOS's centre sampling) hundreds of cells of a large box look alike, a dozen of which are chosen
    by chance: scores took hundreds of steps to rise.
    """
    x, y = centres[:, 0], centres[:, 1]
    left, top, right, bottom = truth.T[:, :, None]
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    distance = (middle[:, None] - centres[None]).square().sum(-1).sqrt()
    eligible = inside & (distance < _RADIUS * strides)
    nearest = distance.argmin(1, keepdim=True)
    chosen: Tensor = eligible | torch.zeros_like(eligible).scatter_(1, nearest, ~eligible.any(1, keepdim=True))
    return chosen


def loss(
    logits: Tensor,
    distances: Tensor,
    centres: Tensor,
    strides: Tensor,
    truth: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Loss of a batch.

    Args:
        logits: [N, K, T].
        distances: [N, K, 4] left, top, right, bottom, in strides.
        centres: [K, 2] in pixels.
        strides: [K] in pixels.
        truth: Per image boxes [M, 4] left, top, right, bottom in pixels, and tags int64 [M]; M may be 0.

    Returns:
        A number.
    """
    boxes = corners(centres, strides, distances)
    goals = torch.zeros_like(logits)
    gaps = []
    for index, (real, tags) in enumerate(truth):
        if not len(real):
            continue
        with torch.no_grad():
            owner, goal = assign(logits[index].sigmoid(), boxes[index], centres, strides, real, tags)
        cells = (owner >= 0).nonzero().squeeze(1)
        goals[index, cells, tags[owner[cells]]] = goal[cells]
        _, generalised = overlaps(boxes[index, cells], real[owner[cells]])
        gaps.append((1 - generalised) * goal[cells])
    total = goals.sum().clamp(min=1.0)
    answer = functional.binary_cross_entropy_with_logits(logits, goals, reduction="sum") / total
    if gaps:
        answer = answer + BOX_WEIGHT * torch.cat(gaps).sum() / total
    return answer
