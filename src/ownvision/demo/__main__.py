"""Run the demo: `python -m ownvision.demo [--images FOLDER]`, which is what `make demo` does."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from ownvision.client.local import Running, command, running_service
from ownvision.demo import life, pictures
from ownvision.demo.exported import compare
from ownvision.demo.life import console

HELD_OUT_DIGITS = 500
TRAIN_SCENES, TEST_SCENES = 40, 20
COMPACT = "General (compact)"
EMPTY_SECONDS = 60.0


def classification(service: Running, name: str, train: list[pictures.Picture], test: list[pictures.Picture]) -> None:
    """A classifier from upload to export to nothing."""
    trainer, predictor = life.clients(service)
    project = life.create(trainer, name, "Classification", COMPACT)
    life.upload(trainer, project, train)
    iteration = life.train(trainer, project)
    life.show_performance(trainer, project, iteration)
    life.publish(trainer, project, iteration, service)
    life.accuracy(predictor, project, test)
    # One prediction is stored, so that the end shows that it goes with its project.
    predictor.classify_image(project.id, life.PUBLISH_NAME, test[0].data)
    compare(trainer, predictor, project, iteration, test[:5])
    console.print(f"Files in the object store now: {_objects(service)}")
    life.delete(trainer, project, iteration)


def detection(service: Running) -> None:
    """A detector from upload to nothing."""
    trainer, predictor = life.clients(service)
    project = life.create(trainer, "Digits on photographs", "ObjectDetection", COMPACT)
    life.upload(trainer, project, pictures.scenes(TRAIN_SCENES, seed=0))
    iteration = life.train(trainer, project)
    life.show_performance(trainer, project, iteration)
    life.publish(trainer, project, iteration, service)
    life.mean_average_precision(predictor, project, pictures.scenes(TEST_SCENES, seed=1))
    life.delete(trainer, project, iteration)


def digits_and_scenes(service: Running) -> None:
    """What the demo shows when it is given no pictures."""
    console.rule("Classification: 1,797 handwritten digits")
    classification(service, "Digits", *pictures.split(pictures.digits(), HELD_OUT_DIGITS))
    console.rule("Detection: digits on photographs")
    if importlib.util.find_spec("torch") is None:
        console.print("Left out: a detector needs torch, `pip install 'ownvision\\[train]'`.")
    else:
        detection(service)


def show_nothing_is_left(service: Running) -> None:
    """Count the files that are left and let the doctor look.

    Raises:
        RuntimeError: when something is left.
    """
    deadline = time.monotonic() + EMPTY_SECONDS
    while _objects(service) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = _objects(service)
    console.print(f"Files left in the object store: [bold]{left}[/bold]")
    doctor = subprocess.run(command("doctor", "--data", str(service.data)), capture_output=True, text=True)
    console.print(f"ownvision doctor: {(doctor.stdout + doctor.stderr).strip()}")
    if left or doctor.returncode:
        raise RuntimeError("Something is left behind; this should not happen.")


def _objects(service: Running) -> int:
    # os.walk passes over folders that are removed while it looks.
    return sum(len(names) for _, _, names in os.walk(service.data / "objects"))


def demo(
    images: Annotated[Path | None, typer.Option(help="Folder of yours with a sub-folder of pictures per tag")] = None,
) -> None:
    """Show a project's whole life on a service that is started for it and thrown away at the end."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ownvision-demo-") as folder,
        running_service(Path(folder) / "data") as service,
    ):
        console.print(f"OwnVision runs at {service.endpoint}, started for this demo.")
        if images is None:
            digits_and_scenes(service)
        else:
            own = pictures.folder(images)
            console.rule(f"Classification: {len(own)} images of yours")
            classification(service, images.resolve().name, *pictures.split(own, max(1, len(own) // 5)))
        console.rule("What is left")
        show_nothing_is_left(service)
    console.print(f"That took {time.monotonic() - started:.0f} s.")


def main() -> None:
    """Entry point: what goes wrong is one sentence."""
    try:
        typer.run(demo)
    except Exception as error:
        console.print(f"[red]The demo stopped: {error}[/red]")
        sys.exit(1)


if __name__ == "__main__":
    main()
