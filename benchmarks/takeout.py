"""Takeout and restore beside copying the same pictures with hashing, and with encrypting and syncing them too.

`run` measures speed; ``python -m benchmarks.takeout 100000`` the memory at that many small pictures, which takes long.
"""

import hashlib
import io
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import bare
from benchmarks.pictures import jpegs
from benchmarks.results import Result, keep
from ownvision.data_rights.takeout import restoring, writer
from ownvision.data_rights.takeout.own import Own
from ownvision.jobs import rows, runner
from ownvision.limits import Tier
from ownvision.services import accounts, intake, projects, tags
from ownvision.services.components import Components, open_components
from ownvision.services.regions import Box
from ownvision.settings import Settings
from ownvision.store.tables import Job
from ownvision.store.tables.base import now

# As a phone takes them, and as a camera in a machine does: a number of pictures and their side.
LARGE, MIDDLE = (250, 2_400), (1_500, 800)
BATCH, TURNS = 64, 5
SMALL_SIDE = 32
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"  # nothing else is computed when its images arrive


def run() -> bool:
    """Seconds of both, medians of five turns each; what is promised is promised of a phone's pictures."""
    return keep("takeout", [*_measured(*LARGE, least=0.6), *_measured(*MIDDLE, least=None)])


def _measured(count: int, side: int, least: float | None) -> list[Result]:
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path("build").absolute()) as name:
        folder = Path(name)
        originals = _written(jpegs(count, seed=11, side=min(side, 800)), folder / "originals", side)
        _house(folder / "data", originals)
        turns = [_turn(folder, originals) for _ in range(TURNS)]
        size = sum(path.stat().st_size for path in originals) / count / 1000
    copied, taken, sealed, restored = (statistics.median(one) for one in zip(*turns, strict=True))
    return [
        Result(f"copy {count} images of {size:.0f} kB with SHA-256, {os.cpu_count()} threads", copied, "s"),
        Result("takeout of them", taken, "s"),
        Result("its speed, of that of copying", copied / taken, "", least, most=False),
        Result(f"copy them with SHA-256, AES-GCM, one syncfs per {BATCH} files", sealed, "s"),
        Result("restore of them", restored, "s"),
        Result("its speed, of that of copying so", sealed / restored, "", least, most=False),
    ]


def _turn(folder: Path, originals: list[Path]) -> tuple[float, float, float, float]:
    copied = _copied(originals, folder / "copy")
    os.sync()  # each begins with nothing of another's to be written
    taken = _timed(_takeout, folder / "data", folder / "takeout.zip")
    os.sync()
    sealed = bare.seconds(originals, Path.read_bytes, folder / "sealed", BATCH)
    _new_house(folder / "back")
    restored = _timed(_restore, folder / "back", folder / "takeout.zip")
    for done in ("copy", "sealed", "back"):
        shutil.rmtree(folder / done)
    (folder / "takeout.zip").unlink()  # as nothing of the other's: to give back its pages takes a quarter of the time
    os.sync()
    return copied, taken, sealed, restored


def _timed(action: Callable[..., None], *paths: object) -> float:
    started = time.perf_counter()
    action(*paths)
    return time.perf_counter() - started


def _written(pictures: list[bytes], folder: Path, side: int = 0) -> list[Path]:
    folder.mkdir()
    for number, data in enumerate(pictures):
        (folder / f"{number:06}.jpg").write_bytes(_enlarged(data, side, number) if side > 800 else data)
    return sorted(folder.iterdir())


def _enlarged(data: bytes, side: int, seed: int) -> bytes:
    """A picture as large, and with as much noise, as a phone's."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.resize((side, side)), np.int16)
    noise = np.random.default_rng(seed).integers(-3, 4, (side, side, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _copied(originals: list[Path], folder: Path) -> float:
    """Seconds to read, hash and write all, on as many threads as there are cores."""
    folder.mkdir()

    def one(path: Path) -> str:
        data = path.read_bytes()
        (folder / path.name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, originals))
    return time.perf_counter() - started


def _new_house(data: Path) -> None:
    components = open_components(Settings(data=data))
    components.database.migrate()
    accounts.first_start(components)
    components.database.close()


def _house(data: Path, originals: list[Path]) -> None:
    """An installation with a project of these pictures, each with a box."""
    _new_house(data)
    components = open_components(Settings(data=data))
    limits = components.settings.limits
    with components.database.write() as session:
        (account,) = accounts.all(session)
        project = projects.create(
            session,
            components.keys,
            account,
            name="Takeout",
            description=None,
            domain_id=DETECTION,
            classification_type=None,
            target_export_platforms=[],
            limits=limits,
        )
        tag = tags.create(session, project, "thing", None, None, limits, Tier())
    for start in range(0, len(originals), BATCH):
        batch = [
            intake.Picture(path.name, path.read_bytes, file_name=path.name, boxes=[Box(tag.id, 0.1, 0.2, 0.5, 0.25)])
            for path in originals[start : start + BATCH]
        ]
        intake.add_images(components, account.id, project.id, None, batch)
    components.database.close()


@contextmanager
def _opened(data: Path) -> Iterator[tuple[Components, str]]:
    components = open_components(Settings(data=data))
    with components.database.read() as session:
        (account,) = accounts.all(session)
    yield components, account.id
    components.database.close()


def _takeout(data: Path, out: Path) -> None:
    with _opened(data) as (components, account_id), out.open("xb") as file:
        for part in writer.stream(Own(components, account_id, None, now()), out.parent, writer.Told()):
            file.write(part)


def _restore(data: Path, archive: Path) -> None:
    """As the command does it where no service runs."""
    with _opened(data) as (components, account_id):
        for coming in _begun(components, account_id, archive):
            claim = rows.take(components.database, coming.job_id, components.settings.job_lease)
            assert claim is not None
            runner.run(components, claim)
            with components.database.read() as session:
                job = session.get_one(Job, coming.job_id)
            assert job.state == rows.DONE, job.error


def _begun(components: Components, account_id: str, archive: Path) -> list[restoring.Coming]:
    with ExitStack() as stack:
        return restoring.start(components, account_id, archive, restoring.opened(archive, stack))


def memory(images: int) -> bool:
    """The most memory that either command held, at so many small pictures."""
    with tempfile.TemporaryDirectory(dir=Path("build").absolute()) as name:
        folder = Path(name)
        originals = _written(jpegs(images, side=SMALL_SIDE, seed=12), folder / "originals")
        _house(folder / "data", originals)
        _new_house(folder / "back")
        seconds, peaks = [], []
        for action, data in ((_takeout, folder / "data"), (_restore, folder / "back")):
            started = time.perf_counter()
            peaks.append(_apart(action, data, folder / "takeout.zip"))
            seconds.append(time.perf_counter() - started)
        size = (folder / "takeout.zip").stat().st_size / 1e6
    return keep(
        "takeout_memory",
        [
            Result(f"memory of a takeout of {images} images at its peak", peaks[0], "MB", 200),
            Result("memory of their restore at its peak", peaks[1], "MB", 200),
            Result(f"takeout of {images} small images", seconds[0], "s"),
            Result(f"restore of {images} small images", seconds[1], "s"),
            Result("the archive", size, "MB"),
        ],
    )


def _apart(action: Callable[[Path, Path], None], data: Path, archive: Path) -> float:
    """The most megabytes that a process of its own held; its `ru_maxrss` would be at least this one's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, action, data, archive).result()


def _peak(action: Callable[[Path, Path], None], data: Path, archive: Path) -> float:
    action(data, archive)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(0 if memory(int(sys.argv[1])) else 1)
