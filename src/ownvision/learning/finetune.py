"""Fine-tuning of a classifier's network in torch; only the training subprocess imports this module.

The packaged network's batch norms are folded into its convolutions: their statistics stay as they are, without which a
few images would ruin it. The first stages stay frozen and run in onnxruntime. The new head starts as ridge regression
on the packaged features, so the first step already begins at the level of a linear classifier. The same pictures, seed
and number of steps give the same numbers on the same machine; nothing here looks at a clock but `pace`.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ownvision.learning.augment import Variation, vary
from ownvision.learning.backbones.efficientnet_lite import Block, Convolution, Network, network
from ownvision.learning.detect_network import Residual, SameConv
from ownvision.learning.detect_train import threads
from ownvision.learning.graph import Head
from ownvision.learning.tuned import front

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

BATCH = 16
# A step's pictures pass in parts of at most so many pixels: training all stages keeps 5 kB for each of them.
_PIXELS_AT_ONCE = 6 * 224 * 224
_BACKBONE_RATE, _HEAD_RATE, _DECAY = 3e-4, 1e-3, 0.02
_WARM_UP_SHARE, _LEAST_RATE = 0.1, 0.02
_AVERAGE, _SMOOTHING, _DROPPED = 0.98, 0.05, 0.2
_LARGEST_GRADIENT = 5.0
# How much of the features' own scale is added to ridge regression's diagonal, and how decided its scores are made.
_RIDGE, _DECIDED = 0.3, 4.0
_NO_BOXES = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned.

    Attributes:
        backbone: A name of `BACKBONES`.
        size: Side of the input in pixels, a multiple of 32.
        first: The first stage that is trained, 1 to 6.
        how: How strongly pictures are varied.
        seed: Of order and variations.
    """

    backbone: str
    size: int
    first: int
    how: Variation
    seed: int = 0


class _Net(nn.Module):
    """What is trained: stages, head convolution, and a linear head on the mean of its standardised map."""

    def __init__(self, net: Network, first: int, tags: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(block) for block in net.blocks if block.stage >= first)
        self.top = SameConv(net.head)
        width = net.head.weight.shape[0]
        self.center, self.scale = (nn.Buffer(numbers) for numbers in (torch.zeros(width), torch.ones(width)))
        self.linear = nn.Linear(width, tags)

    def features(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        mean: Tensor = self.top(x).mean((2, 3))
        return mean

    def forward(self, x: Tensor) -> Tensor:
        standard = (self.features(x) - self.center) / self.scale
        scores: Tensor = self.linear(functional.dropout(standard, _DROPPED, self.training))
        return scores


def tune(
    pick: Callable[[int], Pixels],
    labels: NDArray[np.bool_],
    recipe: Recipe,
    *,
    multilabel: bool,
    steps: int,
    stop: Callable[[], None] = lambda: None,
) -> tuple[Network, Head]:
    """Fine-tune the packaged network.

    Args:
        pick: Gives the picture of a row as uint8 [h, w, 3], a little larger than the network's input.
        labels: bool [N, T], one tag a row unless `multilabel`.
        recipe: How.
        multilabel: Independent probabilities per tag, or ones that sum to one.
        steps: Of `BATCH` pictures each.
        stop: Called before each step; raises to end the training.

    Returns:
        The changed network and its head on the mean of the last map; not calibrated.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = _start(pick, labels, recipe)
        average = _Net(network(recipe.backbone), recipe.first, labels.shape[1])
        average.load_state_dict(model.state_dict())
        for _ in _steps(model, average, pick, labels, recipe, multilabel, steps, stop):
            pass
    return _changed(average, recipe), _head(average, multilabel)


def pace(pick: Callable[[int], Pixels], labels: NDArray[np.bool_], recipe: Recipe, *, multilabel: bool) -> float:
    """Seconds that one step takes here, by three of them."""
    model = _Net(network(recipe.backbone), recipe.first, labels.shape[1])
    average = _Net(network(recipe.backbone), recipe.first, labels.shape[1])
    moments = [time.monotonic() for _ in _steps(model, average, pick, labels, recipe, multilabel, 3, lambda: None)]
    return moments[2] - moments[1]


def _start(pick: Callable[[int], Pixels], labels: NDArray[np.bool_], recipe: Recipe) -> _Net:
    model = _Net(network(recipe.backbone), recipe.first, labels.shape[1])
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run, parts = _front(recipe), []
    still = replace(recipe.how, zoom=(1.0, 1.0), stretch=1.0, moves=False, flips=False, colour=0.0, mosaic=0.0)
    rng = np.random.default_rng(recipe.seed)
    with torch.no_grad():
        for at in range(0, len(labels), BATCH):
            rows = range(at, min(at + BATCH, len(labels)))
            parts.append(model.features(run(_batch(rows, pick, recipe.size, still, rng))).numpy())
    x = np.concatenate(parts)
    center, scale = x.mean(0), x.std(0) + 1e-3
    weights, bias = _ridge((x - center) / scale, labels)
    with torch.no_grad():
        for name, numbers in (("center", center), ("scale", scale), ("linear.weight", weights), ("linear.bias", bias)):
            model.state_dict()[name].copy_(torch.from_numpy(numbers))
    return model


def _ridge(x: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Weights [T, D] and bias [T] of ridge regression on whether a row carries a tag, in the dual."""
    share = labels.mean(0)
    gram = (x @ x.T).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + 1e-6
    shares = np.linalg.solve(gram, labels - share) * _DECIDED
    likely = np.log((share + 0.01) / (1.01 - share)) if labels.sum() != len(labels) else np.zeros_like(share)
    return (shares.T @ x).astype(np.float32), likely.astype(np.float32)


def _steps(
    model: _Net,
    average: _Net,
    pick: Callable[[int], Pixels],
    labels: NDArray[np.bool_],
    recipe: Recipe,
    multilabel: bool,
    steps: int,
    stop: Callable[[], None],
) -> Iterator[float]:
    """Takes gradient steps, and gives each one's loss."""
    torch.set_num_threads(threads())
    for one in (model, average):
        one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.requires_grad_(False).eval()
    run, optimizer = _front(recipe), _optimizer(model.train())
    rates = [group["lr"] for group in optimizer.param_groups]
    rng = np.random.default_rng(recipe.seed)
    order = _order(len(labels), rng)
    for step in range(steps):
        stop()
        rows = [next(order) for _ in range(min(BATCH, 2 * len(labels)))]
        optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for part in np.array_split(rows, math.ceil(len(rows) * recipe.size**2 / _PIXELS_AT_ONCE)):
            scores = model(run(_batch(part, pick, recipe.size, recipe.how, rng)))
            truth = torch.from_numpy(labels[part].astype(np.float32))
            value = _loss(scores, truth, multilabel) * (len(part) / len(rows))
            value.backward()  # type: ignore[no-untyped-call]
            loss += float(value.item())
        nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _rate(step, steps)
        optimizer.step()
        _follow(average, model, step)
        yield loss


def _batch(
    rows: Iterable[int], pick: Callable[[int], Pixels], size: int, how: Variation, rng: np.random.Generator
) -> Floats:
    shown = [vary(int(row), lambda index: (pick(index), *_NO_BOXES), 1, size, how, rng)[0] for row in rows]
    return np.ascontiguousarray(np.stack(shown).transpose(0, 3, 1, 2), dtype=np.float32)


def _front(recipe: Recipe) -> Callable[[Floats], Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads work meanwhile
    session = onnxruntime.InferenceSession(
        front(recipe.backbone, recipe.size, recipe.first), options, providers=["CPUExecutionProvider"]
    )

    def run(image: Floats) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image})[0]).to(memory_format=torch.channels_last)

    return run


def _order(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (int(index) for index in rng.permutation(count))


def _optimizer(model: _Net) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = _HEAD_RATE if name.startswith("linear.") else _BACKBONE_RATE
        groups.setdefault((rate, _DECAY if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()], fused=True
    )


def _loss(scores: Tensor, truth: Tensor, multilabel: bool) -> Tensor:
    """Cross entropy with smoothed truth (Szegedy et al. 2016, §7)."""
    if multilabel:
        return functional.binary_cross_entropy_with_logits(scores, truth * (1 - _SMOOTHING) + _SMOOTHING / 2)
    return functional.cross_entropy(scores, truth, label_smoothing=_SMOOTHING)


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / max(1.0, _WARM_UP_SHARE * steps)) * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


@torch.no_grad()
def _follow(average: _Net, model: _Net, step: int) -> None:
    keep = min(_AVERAGE, (1 + step) / (10 + step))  # early numbers are noise: the mean starts short and grows
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)


def _changed(model: _Net, recipe: Recipe) -> Network:
    net = network(recipe.backbone)
    trained = iter(model.blocks)
    blocks = tuple(_block(block, next(trained)) if block.stage >= recipe.first else block for block in net.blocks)
    return Network(net.stem, blocks, _convolution(net.head, model.top))


def _block(block: Block, trained: nn.Module) -> Block:
    assert isinstance(trained, Residual)
    pairs = zip(block.convolutions, trained.convolutions, strict=True)
    return replace(block, convolutions=tuple(_convolution(old, new) for old, new in pairs))


def _convolution(old: Convolution, new: nn.Module) -> Convolution:
    assert isinstance(new, SameConv)
    assert new.bias is not None
    return replace(old, weight=_array(new.weight), bias=_array(new.bias))


def _head(model: _Net, multilabel: bool) -> Head:
    weights = _array(model.linear.weight / model.scale).T
    bias = _array(model.linear.bias - (model.linear.weight / model.scale) @ model.center)
    return Head(np.ascontiguousarray(weights), bias, "sigmoid" if multilabel else "softmax")


def _array(tensor: Tensor) -> Floats:
    return np.array(tensor.detach().contiguous().numpy(), np.float32)  # a copy: the tensor goes on training
