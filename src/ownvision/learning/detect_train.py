"""The detector's training loop in torch; only the training subprocess imports this module.

Nothing here looks at a clock, and threads are as many as the machine has: the same pictures and seed give the same
numbers on the same machine.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ownvision.learning import device
from ownvision.learning.augment import Scene, variation, vary
from ownvision.learning.detect_loss import loss
from ownvision.learning.detect_network import Detector
from ownvision.learning.detector_graph import Floats, centres, front
from ownvision.learning.tiling import Tiling

BATCH = 4
# Steps between two looks at the loss.
LOOK = 10
_HEAD_RATE, _BACKBONE_RATE, _DECAY = 2e-3, 3e-4, 0.02
_WARM_UP, _LEAST_RATE = 15, 0.03
# The last part of the schedule sees milder pictures; settling on all images is that mild throughout, and this slow.
_MILD_SHARE, _SETTLE_RATE = 0.5, 0.15
_AVERAGE = 0.98
# Batch norm's running statistics forget their initial numbers by a tenth with every step.
_STEPS_TO_KNOW = 40
_LARGEST_GRADIENT = 10.0


@dataclass
class Training:
    """A detector being trained.

    Attributes:
        detector: Takes the gradient steps.
        average: The running mean of its numbers, which is what is kept (Polyak and Juditsky 1992).
        seed: Where chance comes from, with the number of the step.
        tiling: How pictures are looked at.
        known: Whether it began with an earlier detector's numbers.
        log: Step and loss.
        precision: Which numbers the forward pass computes in.
    """

    detector: Detector
    average: Detector
    run_front: Callable[[Floats], Tensor]
    input_size: int
    seed: int
    augmentation: Mapping[str, bool]
    tiling: Tiling | None
    known: bool = False
    log: list[tuple[int, float]] = field(default_factory=list)
    precision: device.Precision = "fp32"

    def numbers(self) -> dict[str, Floats]:
        """The averaged detector's convolutions, as `detector_graph.detector` reads them."""
        return self.average.numbers()


def threads() -> int:
    """Of torch and of the frozen front."""
    return device.threads()


def start(
    backbone: str,
    tags: int,
    input_size: int,
    seed: int,
    augmentation: Mapping[str, bool],
    tiling: Tiling | None = None,
    known: Mapping[str, Floats] | None = None,
) -> Training:
    """A detector with the backbone's packaged numbers and a fresh head, or with those of an earlier one."""
    torch.set_num_threads(threads())
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory before it writes it; filling it all took an eighth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector(backbone, tags)
    if known is not None:
        detector.adopt(known)
    average = Detector(backbone, tags)
    average.load_state_dict(detector.state_dict())
    for one in (detector, average):
        one.to(device.training_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.requires_grad_(False).eval()
    run_front = _front(backbone, input_size)
    return Training(detector, average, run_front, input_size, seed, augmentation, tiling, known is not None)


def advance(
    training: Training,
    pick: Callable[[int], Scene],
    count: int,
    steps: int,
    *,
    settle: bool,
    stop: Callable[[int], None],
    look: Callable[[int, float], None] = lambda _step, _loss: None,
) -> None:
    """Take gradient steps.

    Args:
        training: What is trained, in place.
        pick: Gives the picture of an index below `count`.
        count: How many pictures there are.
        steps: How many steps to take.
        settle: Start from the averaged numbers, slowly and mildly, instead of the whole schedule.
        stop: Called before each step with its number in this schedule; raises to end the training.
        look: Called every `LOOK` steps with how many are done and the mean of their losses.
    """
    if settle:
        training.detector.load_state_dict(training.average.state_dict())
    detector = training.detector.train()
    optimizer = _optimizer(detector)
    rates = [group["lr"] for group in optimizer.param_groups]
    where = next(detector.parameters()).device
    points, strides = (torch.from_numpy(array).to(where) for array in centres(training.input_size))
    if not settle:
        training.precision = device.precision(where, lambda kind: _trial(training, pick, count, kind))
    mild, strong = (
        variation(training.augmentation, final=final, tiles=training.tiling, side=training.input_size)
        for final in (True, False)
    )
    mild_from = 0 if settle else round(steps * (1 - _MILD_SHARE))
    order = _order(count, training.seed + settle)
    for step in range(steps):
        stop(step)
        # An earlier detector's norms are folded: what remains of them means nothing as a statistic.
        if step == (0 if settle or training.known else max(mild_from, _STEPS_TO_KNOW)):
            _freeze_norms(detector)
        at = len(training.log)
        rng = np.random.default_rng([training.seed, at])
        how = mild if step >= mild_from else strong
        chosen = [next(order) for _ in range(BATCH)]
        scenes = [vary(index, pick, count, training.input_size, how, rng) for index in chosen]
        features = training.run_front(np.stack([scene[0] for scene in scenes]))
        share = _rate(step, steps) * (_SETTLE_RATE if settle else 1.0)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        optimizer.zero_grad(set_to_none=True)
        with _computing(where, training.precision):
            logits, distances = detector(features)
        truth = [_truth(scene, training.input_size, where) for scene in scenes]
        value = loss(logits.float(), distances.float(), points, strides, truth)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), _LARGEST_GRADIENT)
        optimizer.step()
        _follow(training.average, detector, at)
        training.log.append((at, float(value.item())))
        if (step + 1) % LOOK == 0 or step + 1 == steps:
            look(step + 1, float(np.mean([one for _, one in training.log[-(step % LOOK + 1) :]])))


def _front(backbone: str, input_size: int) -> Callable[[Floats], Tensor]:
    session, where = device.session(front(backbone, input_size), threads()), device.training_device()

    def run(pixels: Floats) -> Tensor:
        image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
        features = torch.from_numpy(session.run(None, {"image": image})[0])
        return features.to(where, memory_format=torch.channels_last)

    return run


def _truth(scene: Scene, input_size: int, where: torch.device) -> tuple[Tensor, Tensor]:
    boxes = torch.from_numpy(scene[1] * np.float32(input_size))
    return boxes.to(where), torch.from_numpy(scene[2]).to(where)


def _computing(where: torch.device, precision: device.Precision) -> torch.autocast:
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def _trial(
    training: Training, pick: Callable[[int], Scene], count: int, precision: device.Precision
) -> Callable[[], float]:
    """Steps for `device.probe`: on a copy, on the first pictures as they are."""
    detector = copy.deepcopy(training.detector).train()
    where, optimizer = next(detector.parameters()).device, _optimizer(detector)
    points, strides = (torch.from_numpy(array).to(where) for array in centres(training.input_size))
    plain = variation({}, final=True)
    scenes = [
        vary(index % count, pick, count, training.input_size, plain, np.random.default_rng(index))
        for index in range(BATCH)
    ]
    features = training.run_front(np.stack([scene[0] for scene in scenes]))
    truth = [_truth(scene, training.input_size, where) for scene in scenes]

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with _computing(where, precision):
            logits, distances = detector(features)
        value = loss(logits.float(), distances.float(), points, strides, truth)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(value.item())  # waits for the device

    return step


def _order(count: int, seed: int) -> Iterator[int]:
    rng = np.random.default_rng([seed, count])
    while True:
        yield from (int(index) for index in rng.permutation(count))


def _optimizer(detector: Detector) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = _BACKBONE_RATE if name.startswith("backbone.") else _HEAD_RATE
        groups.setdefault((rate, _DECAY if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()], fused=True
    )


def _freeze_norms(detector: Detector) -> None:
    """From here on normalise as when predicting: a batch of four has its own statistics, which blur the edges."""
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / _WARM_UP) * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


@torch.no_grad()
def _follow(average: Detector, detector: Detector, step: int) -> None:
    # Early numbers are noise: the mean starts short and grows.
    keep = min(_AVERAGE, (1 + step) / (10 + step))
    mine: Sequence[Tensor] = list(average.state_dict().values())
    for old, new in zip(mine, detector.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)
