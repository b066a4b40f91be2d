import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ownvision.learning import device
from ownvision.learning.device import Precision


class Trial:
    """Steps that take as long and lose as much as they are told, on a clock of their own."""

    def __init__(self, seconds: dict[Precision, list[float]], losses: dict[Precision, list[float]]) -> None:
        self.seconds, self.losses = seconds, losses
        self.now = 0.0
        self.taken: list[Precision] = []

    def __call__(self, kind: Precision) -> Callable[[], float]:
        steps = iter(zip(self.seconds[kind], self.losses[kind], strict=True))

        def step() -> float:
            second, loss = next(steps)
            self.now += second
            self.taken.append(kind)
            return loss

        return step


@pytest.mark.parametrize(
    ("seconds", "losses", "chosen"),
    [
        ([1, 1, 1], [3.01, 2.02, 1.01], "bf16"),
        ([9, 1, 1], [3.0, 2.0, 1.0], "bf16"),  # the first step chooses kernels
        ([3, 3, 3], [3.0, 2.0, 1.0], "fp32"),
        ([1, 1, 1], [3.0, 2.0, 1.2], "fp32"),
        ([1, 1, 1], [3.0, math.nan, 1.0], "fp32"),
        ([1, 1, 1], [3.0, math.inf, 1.0], "fp32"),
    ],
    ids=["faster", "faster but for the first", "slower", "another loss", "not a number", "overflow"],
)
def test_three_steps_choose_bfloat16_where_it_is_faster_and_says_the_same(
    seconds: list[float], losses: list[float], chosen: str
) -> None:
    trial = Trial({"fp32": [2, 2, 2], "bf16": seconds}, {"fp32": [3.0, 2.0, 1.0], "bf16": losses})
    assert device.probe(trial, lambda: trial.now) == chosen
    assert trial.taken == ["fp32"] * 3 + ["bf16"] * 3


def test_a_cpu_trains_in_float32_without_a_trial() -> None:
    torch = pytest.importorskip("torch")
    trial = Trial({}, {})
    assert device.precision(torch.device("cpu"), trial) == "fp32"
    assert trial.taken == []


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 without a limit", "not understood", "v1", "v1 without a limit", "none"],
)
def test_a_container_s_share_of_the_cores_is_read(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert device._quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("cores", "quota", "wanted", "given"),
    [(64, None, 0, 8), (4, None, 0, 4), (4, 1.5, 0, 2), (4, 0.2, 0, 1), (4, 32.0, 0, 4), (4, 1.0, 12, 12)],
)
def test_threads_are_bounded_unless_asked_for(
    cores: int, quota: float | None, wanted: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(device, "_quota", lambda _: quota)
    assert device.threads(wanted) == given


def test_a_gpu_is_used_where_onnxruntime_has_one_and_counts_as_the_cpu_does() -> None:
    first, second = device.providers(["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"])
    assert (first[0], first[1]["use_tf32"]) == ("CUDAExecutionProvider", "0")  # type: ignore[index]
    assert second == "CPUExecutionProvider"
    assert device.providers(["AzureExecutionProvider", "CPUExecutionProvider"]) == ["CPUExecutionProvider"]


def test_a_session_gets_the_threads_it_was_given() -> None:
    from ownvision.learning.graph import embedder

    session = device.session(embedder("efficientnet_lite0"), 1)
    assert session.get_session_options().intra_op_num_threads == 1
    (vectors,) = session.run(None, {"image": np.zeros((1, 3, 224, 224), np.float32)})
    assert np.isfinite(vectors).all()


@pytest.mark.train
def test_a_detector_s_trial_steps_learn_on_a_copy_in_either_precision() -> None:
    torch = pytest.importorskip("torch")
    from ownvision.learning import detect_train
    from ownvision.learning.augment import Scene

    def pick(index: int) -> Scene:
        rgb = np.random.default_rng(index).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        return rgb, np.array([[0.2, 0.2, 0.7, 0.8]], np.float32), np.array([0])

    training = detect_train.start("efficientnet_lite0", 1, 64, 0, {})
    before = {name: number.clone() for name, number in training.detector.state_dict().items()}
    steps = {kind: detect_train._trial(training, pick, 2, kind) for kind in ("fp32", "bf16")}  # type: ignore[arg-type]
    losses = {kind: [step() for _ in range(device.PROBE_STEPS)] for kind, step in steps.items()}
    assert np.isfinite(losses["bf16"]).all()
    assert losses["fp32"][-1] < losses["fp32"][0]
    assert losses["bf16"] != losses["fp32"]
    assert np.allclose(losses["bf16"], losses["fp32"], rtol=0.05)
    assert all(torch.equal(number, before[name]) for name, number in training.detector.state_dict().items())
