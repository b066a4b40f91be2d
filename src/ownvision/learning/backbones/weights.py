"""Read a legacy torch pickle without torch, and without running anything it names.

The format (torch before 1.6): four pickles (magic number, protocol, system, the state dict), the list of storage keys,
then for each storage its length (int64) and its numbers. The unpickler knows ordered dicts, tensors and storages only.
"""

import io
import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ownvision.learning.backbones import BACKBONES

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage:
    def __init__(self, dtype: np.dtype[Any], length: int) -> None:
        self.dtype = dtype
        self.length = length
        self.tensors: list[_Tensor] = []


class _Tensor:
    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> None:
        self.offset, self.shape, self.stride = offset, shape, stride
        self.array: NDArray[Any] = np.empty(0)
        storage.tensors.append(self)

    def fill(self, numbers: NDArray[Any]) -> None:
        # Kernels ported from TensorFlow lie transposed: in plain order they are noise that still looks like weights.
        last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
        if self.offset < 0 or min(self.stride, default=0) < 0 or last >= len(numbers):
            raise pickle.UnpicklingError("a tensor reaches beyond its numbers")
        steps = [step * numbers.itemsize for step in self.stride]
        self.array = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps, writeable=False)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"a weights file has no business with {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, length, _ = pid
        return self.storages.setdefault(key, _Storage(dtype, length))


def load_weights(name: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a backbone's weights file by name, float32.

    Raises:
        OwnVisionError: ErrorFeaturizationServiceUnavailable: there is no such backbone, or its file is not the one the
            registry names.
    """
    return read(BACKBONES[name].read())


def read(data: bytes) -> dict[str, NDArray[np.float32]]:
    """The floating-point tensors of a legacy torch pickle.

    Raises:
        pickle.UnpicklingError: It is no such file, or names anything but tensors.
    """
    file = io.BytesIO(data)
    if _Unpickler(file).load() != _MAGIC:
        raise pickle.UnpicklingError("this is no legacy torch file")
    _Unpickler(file).load()
    _Unpickler(file).load()
    unpickler = _Unpickler(file)
    state = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        length = int.from_bytes(file.read(8), "little")
        numbers = np.frombuffer(file.read(length * storage.dtype.itemsize), storage.dtype)
        for tensor in storage.tensors:
            tensor.fill(numbers)
    return {
        name: tensor.array.astype(np.float32)
        for name, tensor in state.items()
        if isinstance(tensor, _Tensor) and tensor.array.dtype == np.float32
    }
