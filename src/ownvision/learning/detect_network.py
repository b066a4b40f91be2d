"""The detector as torch trains it, from the frozen front's features on, and its numbers as the graph reads them.

The head's weights are shared by the three strides, its batch norms (Ioffe and Szegedy 2015) are not: features of
different strides have different statistics. Only the training subprocess imports this module.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ownvision.learning.backbones.efficientnet_lite import Block, Convolution, network
from ownvision.learning.detector_graph import (
    DEPTH,
    FIRST_TRAINED_STAGE,
    LARGEST_LOG_DISTANCE,
    STRIDES,
    TAPS,
    TOWERS,
    Floats,
    same_pads,
)

WIDTH, KERNEL = 96, 5
# What every score says before training, so that the many empty cells don't drown the first steps (Lin et al. 2017,
# focal loss, §4.1; at its 0.01, lowering 4,000 of them took the first hundred steps), and the first distance to every
# edge, in strides.
_PRIOR, _FIRST_DISTANCE = 0.002, 3.0


class SameConv(nn.Conv2d):
    """A folded convolution of the backbone, with its packaged numbers and TensorFlow's padding."""

    def __init__(self, convolution: Convolution) -> None:
        outs, ins, kernel, _ = convolution.weight.shape
        before, after = same_pads(convolution)
        # torch pads both sides alike; an uneven padding must be a step of its own.
        even = before == after
        super().__init__(
            ins * convolution.groups,
            outs,
            kernel,
            convolution.stride,
            padding=before if even else 0,
            groups=convolution.groups,
        )
        self.pads = None if even else (before, after, before, after)
        self.relu = convolution.relu
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(convolution.weight))
            assert self.bias is not None
            self.bias.copy_(torch.from_numpy(convolution.bias))

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H / stride, W / stride]."""
        if self.kernel_size == (1, 1) and self.stride == (1, 1):
            output = _pointwise(input, self.weight, self.bias)
        else:
            output = super().forward(functional.pad(input, self.pads) if self.pads else input)
        return functional.relu6(output, inplace=True) if self.relu else output


class Pointwise(nn.Conv2d):
    """A 1×1 convolution as one product of matrices."""

    def __init__(self, ins: int, outs: int, *, bias: bool = False) -> None:
        super().__init__(ins, outs, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H, W]."""
        return _pointwise(input, self.weight, self.bias)


def _pointwise(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # On channels_last maps this is a view, and up to seven times as fast as torch's convolution, whose backward pass
    # has a floor of 4 ms.
    return functional.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """An inverted residual block of the backbone."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*(SameConv(convolution) for convolution in block.convolutions))
        self.adds, self.stage = block.adds, block.stage

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H / stride, W / stride]."""
        output: Tensor = self.convolutions(input)
        return output + input if self.adds else output


class Separable(nn.Module):
    """A 5×5 depthwise and a 1×1 convolution, each with ReLU and one batch norm per level it is used on."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH, bias=False)
        self.pointwise = Pointwise(WIDTH, WIDTH)
        self.inner = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(levels))
        self.outer = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(levels))

    def forward(self, input: Tensor, level: int = 0) -> Tensor:
        """Map [N, WIDTH, H, W] to the same shape."""
        middle = functional.relu(self.inner[level](self.depthwise(input)), inplace=True)
        return functional.relu(self.outer[level](self.pointwise(middle)), inplace=True)

    def adopt(self, known: Mapping[str, Floats], names: list[str]) -> None:
        """Take over folded convolutions, of one name per level."""
        _adopt_folded(self.depthwise, self.inner, known, [f"{name}.depthwise" for name in names])
        _adopt_folded(self.pointwise, self.outer, known, [f"{name}.pointwise" for name in names])

    def numbers(self, name: str, level: int) -> Iterator[tuple[str, Floats]]:
        """Its two folded convolutions for a level."""
        yield from _folded(f"{name}.depthwise", self.depthwise, self.inner[level])
        yield from _folded(f"{name}.pointwise", self.pointwise, self.outer[level])


class _Tower(nn.ModuleList):
    """Separable convolutions one after the other, for every level."""

    def __init__(self) -> None:
        super().__init__(Separable(len(STRIDES)) for _ in range(DEPTH))

    def forward(self, input: Tensor, level: int) -> Tensor:
        for part in self:
            input = part(input, level)
        return input

    def adopt(self, known: Mapping[str, Floats], names: list[str]) -> None:
        for depth, part in enumerate(self):
            assert isinstance(part, Separable)
            part.adopt(known, [f"{name}.{depth}" for name in names])

    def numbers(self, name: str, level: int) -> Iterator[tuple[str, Floats]]:
        for depth, part in enumerate(self):
            assert isinstance(part, Separable)
            yield from part.numbers(f"{name}.{depth}", level)


class Detector(nn.Module):
    """Trained stages of the backbone, pyramid and head.

    Args:
        backbone: A name of `BACKBONES`.
        tags: Number of tags, at least one.
    """

    def __init__(self, backbone: str, tags: int) -> None:
        super().__init__()
        blocks = network(backbone).blocks
        self.first = next(index for index, block in enumerate(blocks) if block.stage == FIRST_TRAINED_STAGE)
        self.backbone = nn.ModuleList(Residual(block) for block in blocks[self.first :])
        outs = {block.stage: block.convolutions[-1].weight.shape[0] for block in blocks}
        self.lateral = nn.ModuleList(Pointwise(outs[stage], WIDTH) for stage in TAPS)
        self.norm = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in TAPS)
        self.smooth = nn.ModuleList(Separable(1) for _ in TAPS)
        self.towers = nn.ModuleDict({tower: _Tower() for tower in TOWERS})
        self.score = Pointwise(WIDTH, tags, bias=True)
        self.edge = Pointwise(WIDTH, 4, bias=True)
        self.edge_shift = nn.Parameter(torch.full((len(STRIDES),), math.log(_FIRST_DISTANCE)))
        for convolution in (self.score, self.edge):
            nn.init.normal_(convolution.weight, std=0.01)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score and locate.

        Args:
            features: float32 [N, C, S / 8, S / 8], from `detector_graph.front`.

        Returns:
            Logits [N, K, T] and distances to left, top, right, bottom edge [N, K, 4] in strides, K cells in the
            order of `detector_graph.centres`.
        """
        logits, distances = [], []
        for level, x in enumerate(self._pyramid(features)):
            ends = {tower: self.towers[tower](x, level) for tower in TOWERS}
            logits.append(self.score(ends["score"]).flatten(2))
            distances.append((self.edge(ends["edge"]) + self.edge_shift[level]).flatten(2))
        logs = torch.cat(distances, 2).transpose(1, 2).clamp(max=LARGEST_LOG_DISTANCE)
        return torch.cat(logits, 2).transpose(1, 2), logs.exp()

    def _pyramid(self, features: Tensor) -> list[Tensor]:
        x, maps = features, {TAPS[0]: features}
        for block in self.backbone:
            x = block(x)
            maps[block.stage] = x  # type: ignore[index]
        levels: list[Tensor] = []
        for level in reversed(range(len(TAPS))):
            y = self.norm[level](self.lateral[level](maps[TAPS[level]]))
            if levels:
                y = y + functional.interpolate(levels[0], scale_factor=2.0, mode="nearest")
            levels.insert(0, self.smooth[level](y))
        return levels

    def numbers(self) -> dict[str, Floats]:
        """Its convolutions with batch norms folded in, named as `detector_graph.detector` reads them."""
        found: dict[str, Floats] = {}
        for index, block in enumerate(self.backbone, self.first):
            for place, convolution in enumerate(block.convolutions):  # type: ignore[arg-type]
                found.update(_plain(f"backbone.{index}.{place}", convolution))
        for level in range(len(STRIDES)):
            found.update(_folded(f"lateral.{level}", self.lateral[level], self.norm[level]))
            found.update(self.smooth[level].numbers(f"smooth.{level}", 0))  # type: ignore[operator]
            for tower in TOWERS:
                found.update(self.towers[tower].numbers(f"tower.{tower}.{level}", level))  # type: ignore[operator]
            found.update(_plain(f"head.score.{level}", self.score))
            found.update(_plain(f"head.edge.{level}", self.edge))
            found[f"head.edge.{level}.bias"] += np.float32(self.edge_shift[level].item())
        return found

    @torch.no_grad()
    def adopt(self, known: Mapping[str, Floats]) -> None:
        """Take over an earlier detector's convolutions where shapes agree; NaN leaves a score's row as it is.

        Batch norms come back folded: they are to be used as when predicting, never with a batch's own statistics.

        Args:
            known: As `numbers` gives them, but for rows of scores that are NaN.
        """
        for index, block in enumerate(self.backbone, self.first):
            for place, convolution in enumerate(block.convolutions):  # type: ignore[arg-type]
                _adopt(convolution, known, f"backbone.{index}.{place}")
        levels = range(len(STRIDES))
        for level in levels:
            _adopt_folded(self.lateral[level], self.norm[level : level + 1], known, [f"lateral.{level}"])
            self.smooth[level].adopt(known, [f"smooth.{level}"])  # type: ignore[operator]
        for tower in TOWERS:
            self.towers[tower].adopt(known, [f"tower.{tower}.{level}" for level in levels])  # type: ignore[operator]
        _adopt(self.score, known, "head.score.0")
        _adopt(self.edge, known, "head.edge.0")
        shifts = [known[f"head.edge.{level}.bias"].mean() - known["head.edge.0.bias"].mean() for level in levels]
        self.edge_shift.copy_(torch.tensor(np.array(shifts, np.float32)))


def _adopt(convolution: nn.Module, known: Mapping[str, Floats], name: str) -> None:
    for part in ("weight", "bias"):
        mine, given = getattr(convolution, part), torch.tensor(known[f"{name}.{part}"])
        if mine.shape == given.shape:
            mine.copy_(torch.where(given.isnan(), mine, given))


def _adopt_folded(convolution: nn.Module, norms: nn.ModuleList, known: Mapping[str, Floats], names: list[str]) -> None:
    """Each level's folded convolution is the shared one, scaled per channel: the strongest stands for the shared."""
    assert isinstance(convolution, nn.Conv2d)
    given = torch.stack([torch.tensor(known[f"{name}.weight"]) for name in names])
    if given.shape[1:] != convolution.weight.shape:
        return
    strength = given.square().sum((2, 3, 4))
    channels = torch.arange(given.shape[1])
    shared = given[strength.argmax(0), channels]
    convolution.weight.copy_(shared)
    scales = (given * shared).sum((2, 3, 4)) / strength.amax(0).clamp(min=1e-12)
    for norm, scale, name in zip(norms, scales, names, strict=True):
        norm.weight.copy_(scale)  # type: ignore[operator]
        norm.bias.copy_(torch.tensor(known[f"{name}.bias"]))  # type: ignore[operator]
        norm.running_mean.zero_()  # type: ignore[operator]
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[operator]


def _plain(name: str, convolution: nn.Module) -> Iterator[tuple[str, Floats]]:
    for part in ("weight", "bias"):
        yield f"{name}.{part}", _array(getattr(convolution, part))


def _folded(name: str, convolution: nn.Module, norm: nn.Module) -> Iterator[tuple[str, Floats]]:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    yield f"{name}.weight", _array(convolution.weight * scale[:, None, None, None])
    yield f"{name}.bias", _array(norm.bias - norm.running_mean * scale)


def _array(tensor: Tensor) -> Floats:
    # A copy: the tensor goes on training.
    return np.array(tensor.detach().cpu().contiguous().numpy(), np.float32)
