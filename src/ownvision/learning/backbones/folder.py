"""The weights folder: backbones beside the built-in ones, each an ONNX file and an entry that says what it is.

``NAME.onnx`` holds the network, ``NAME.json`` its entry; both are written by `add`, the entry last, and can be copied
to another machine as they are. The SHA-256 in the entry is checked whenever the network is read.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ownvision.learning.backbones import BACKBONES, BUILT_IN, Backbone

NAME = r"^[a-z0-9][a-z0-9_-]{0,59}$"
# Every iteration holds its backbone whole, and onnx needs a file several times in memory.
LARGEST_BYTES = 1 << 30
_ENTRY_BYTES = 64 << 10
_LARGEST = float(np.finfo(np.float16).max)  # as which embeddings are kept
# Beside other pictures sums may be added up in another order; a larger difference is another result.
_ALIKE = 1e-4

Level = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Entry(BaseModel):
    """What ``NAME.json`` says; the attributes are those of `Backbone`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: Annotated[str, Field(min_length=1, max_length=200)]
    input_size: Annotated[int, Field(ge=16, le=1024)]
    mean: tuple[Level, Level, Level]
    std: tuple[Spread, Spread, Spread]
    feature_dim: Annotated[int, Field(ge=1, le=65_536)]
    source: Annotated[str, Field(max_length=1_000)]


class Refused(ValueError):
    """An entry or a file that can't be a backbone; one sentence for the person."""


def entries(folder: Path) -> Iterator[Backbone | Refused]:
    """The backbones of a folder in the order of their names, and what is wrong with entries that are none.

    The networks themselves are not read here.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            yield _backbone(folder, _entry(path))
        except Refused as error:
            yield error


def add(
    folder: Path,
    name: str,
    source: bytes,
    *,
    output: str | None = None,
    input_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    licence: str,
    origin: str,
) -> Backbone:
    """Bring a network into the folder: examined, tried, written with its entry.

    Args:
        folder: Made when missing.
        name: What it is to be called.
        source: ONNX, with all its numbers.
        output: Which of its outputs is the pooled features [N, D]; not needed where there is one.
        input_size: Side of its square input, pixels.
        mean: Per channel RGB, of 0 to 255; 0 where the network normalises by itself.
        std: Per channel RGB, of 0 to 255; 1 where the network normalises by itself.
        licence: Of the weights.
        origin: Where they come from, for people.

    Raises:
        Refused: It can't be a backbone, or the name is taken; nothing is written.
    """
    from ownvision.learning.adopted import Unusable
    from ownvision.learning.backbones.onnx_file import check
    from ownvision.learning.backbones.reshape import reshaped

    if name in BUILT_IN or (folder / f"{name}.json").exists():
        raise Refused(f"There is a backbone {name} already; choose another name, or remove its two files first.")
    if len(source) > LARGEST_BYTES:
        raise Refused(f"The network has {len(source):,} bytes; {LARGEST_BYTES:,} are possible.")
    try:
        model = reshaped(source, output, input_size)
        check(model, input_size)
    except Unusable as error:
        raise Refused(f"The network can't be used: {error}") from None
    data = model.SerializeToString(deterministic=True)
    told = {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": licence,
        "input_size": input_size,
        "mean": mean,
        "std": std,
        "feature_dim": model.graph.output[0].type.tensor_type.shape.dim[1].dim_value,
        "source": origin,
    }
    entry = _checked(told, f"The backbone {name}")
    _try(data, entry)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{name}.onnx", data)
    _write(folder / f"{name}.json", (json.dumps(entry.model_dump(), indent=1) + "\n").encode())
    return _backbone(folder, entry)


def register(folder: Path) -> list[Refused]:
    """Make `BACKBONES` hold what is in a folder; returns what is wrong with it."""
    found = list(entries(folder))
    BACKBONES.register(one for one in found if isinstance(one, Backbone))
    return [one for one in found if isinstance(one, Refused)]


def _entry(path: Path) -> Entry:
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(_ENTRY_BYTES))
    except (OSError, ValueError, RecursionError):
        raise Refused(f"The entry {path} is no JSON that can be read.") from None
    entry = _checked(told, f"The entry {path}")
    if entry.name != path.stem or entry.name in BUILT_IN:
        raise Refused(f"The entry {path} is named {entry.name}: it must be the file's name, and no built-in one.")
    return entry


def _checked(told: Mapping[str, Any], what: str) -> Entry:
    try:
        return Entry.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise Refused(f"{what} can't be used: {where}: {first['msg']}.") from None


def _backbone(folder: Path, entry: Entry) -> Backbone:
    return Backbone(
        name=entry.name,
        kind="onnx",
        weights=partial(Path, folder, f"{entry.name}.onnx"),
        sha256=entry.sha256,
        input_size=entry.input_size,
        mean=entry.mean,
        std=entry.std,
        blocks=(entry.feature_dim,),
        licence=entry.licence,
        source=entry.source,
    )


def _try(data: bytes, entry: Entry) -> None:
    """Run it on black, white and noise: alone and together, what it says must be the same, and fit float16."""
    from ownvision.learning.device import session

    shape = (3, entry.input_size, entry.input_size)
    noise = np.random.default_rng(0).integers(0, 256, shape)
    pictures = np.stack([np.zeros(shape), np.full(shape, 255), noise]).astype(np.float32)
    center, scale = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (entry.mean, entry.std))
    put_in = (pictures - center) / scale
    try:
        running = session(data)
        (together,) = running.run(None, {"image": put_in})
        alone = np.concatenate([running.run(None, {"image": put_in[at : at + 1]})[0] for at in range(len(put_in))])
    except Exception as error:  # onnxruntime raises classes of its own
        raise Refused(
            f"The network does not run on three pictures together and on one ({type(error).__name__}): export it with "
            "a first dimension that is free."
        ) from None
    if together.shape != (3, entry.feature_dim) or not np.abs(together).max() < _LARGEST:
        raise Refused(f"The network's output is not [N, {entry.feature_dim}] of finite numbers below 65,504.")
    if np.abs(together - alone).max() > _ALIKE * (1 + np.abs(alone).max()):
        raise Refused("What the network says of a picture hangs on the pictures beside it (batch norm in training?).")


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also when the machine stops."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
