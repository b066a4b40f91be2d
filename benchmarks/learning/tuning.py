"""Full fine-tuning of a backbone in plain PyTorch: what a competent person would write in an afternoon."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ownvision.learning import pixels
from ownvision.learning.backbones import BACKBONES
from ownvision.learning.backbones.efficientnet_lite import network
from ownvision.learning.detect_network import Residual, SameConv

EPOCHS, BATCH, BACKBONE_RATE, HEAD_RATE = 20, 16, 1e-4, 1e-3


class _Net(nn.Module):
    def __init__(self, name: str, tags: int) -> None:
        super().__init__()
        net, self.backbone = network(name), BACKBONES[name]
        self.body = nn.Sequential(SameConv(net.stem), *(Residual(block) for block in net.blocks), SameConv(net.head))
        self.head = nn.Linear(net.head.weight.shape[0], tags)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.backbone.mean[0]) / self.backbone.std[0]
        scores: Tensor = self.head(functional.dropout(self.body(x).mean((2, 3)), 0.2, self.training))
        return scores


def fine_tuned(
    name: str, files: list[bytes], tags: NDArray[np.int64], seed: int = 0
) -> Callable[[list[bytes]], NDArray[np.float32]]:
    """Train all layers; returns what gives probabilities [N, T] of other pictures."""
    torch.manual_seed(seed)
    size = BACKBONES[name].input_size
    model = _Net(name, int(tags.max()) + 1)
    groups = [
        {"params": model.body.parameters(), "lr": BACKBONE_RATE},
        {"params": model.head.parameters(), "lr": HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = EPOCHS * -(-len(files) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [BACKBONE_RATE, HEAD_RATE], total_steps=steps)
    x, y = _tensor(files, size), torch.from_numpy(tags)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(files))
        for at in range(0, len(files), BATCH):
            rows = order[at : at + BATCH]
            shown = x[rows].float()
            mirrored = torch.rand(len(rows)) < 0.5
            shown[mirrored] = shown[mirrored].flip(3)
            loss = functional.cross_entropy(model(shown), y[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def predict(others: list[bytes]) -> NDArray[np.float32]:
        model.eval()
        parts = [
            model(_tensor(others[at : at + BATCH], size).float()).softmax(1) for at in range(0, len(others), BATCH)
        ]
        return torch.cat(parts).numpy()

    return predict


def _tensor(files: list[bytes], size: int) -> Tensor:
    return torch.from_numpy(np.stack([pixels.load(one, size, size).transpose(2, 0, 1) for one in files]))
