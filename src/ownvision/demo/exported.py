"""The exported model, run by the program in its own archive, beside what the service answers."""

import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from ownvision.demo.life import PUBLISH_NAME, console
from ownvision.demo.pictures import Picture

TOLERANCE = 1e-4
EXPORT_SECONDS = 60.0


def compare(trainer: Any, predictor: Any, project: Any, iteration: Any, pictures: Sequence[Picture]) -> None:
    """Export as ONNX and print how far its probabilities are from the prediction API's.

    Raises:
        RuntimeError: when the export fails or the numbers differ.
    """
    trainer.export_iteration(project.id, iteration.id, "ONNX")
    export = _finished(trainer, project, iteration)
    with urlopen(export.download_uri) as download:
        data = download.read()
    console.print(f"Exported {iteration.name} as ONNX: {len(data) / 1e6:.1f} MB.")
    worst = 0.0
    with TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(folder)
        for picture in pictures:
            answer = predictor.classify_image_with_no_store(project.id, PUBLISH_NAME, picture.data)
            exported = probabilities(folder, picture.data)
            worst = max(worst, *(abs(exported[row.tag_name] - row.probability) for row in answer.predictions))
    console.print(f"onnxruntime on the exported file: at most {worst:.1g} from the API, over {len(pictures)} images.")
    if worst > TOLERANCE:
        raise RuntimeError(f"The exported model is more than {TOLERANCE} away from the service.")


def probabilities(folder: Path, picture: bytes) -> dict[str, float]:
    """Probability of each tag, printed by `python/predict.py` of an unpacked classifier's archive."""
    with TemporaryDirectory() as name:
        path = Path(name) / "picture"
        path.write_bytes(picture)
        program = [sys.executable, str(folder / "python" / "predict.py"), str(path)]
        printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=1) for line in printed.splitlines() if line.startswith("  ")]
    return {tag: float(probability) for probability, tag in rows}


def _finished(trainer: Any, project: Any, iteration: Any) -> Any:
    deadline = time.monotonic() + EXPORT_SECONDS
    while time.monotonic() < deadline:
        (export,) = trainer.get_exports(project.id, iteration.id)
        if export.status == "Done":
            return export
        if export.status == "Failed":
            raise RuntimeError("The export failed.")
        time.sleep(0.2)
    raise RuntimeError(f"The export took more than {EXPORT_SECONDS:.0f} s.")
