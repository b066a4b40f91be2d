"""A person deletes a project through the SDK, follows the header to the receipt, and has it verified."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient
from msrest.authentication import ApiKeyCredentials

from ownvision.client.local import command, running_service
from tests.sdk.conftest import scene, wait_for

pytestmark = pytest.mark.service


def _verify(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(command("receipt", "verify", *arguments), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_header_leads_to_a_signed_receipt_that_anybody_can_verify(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", {"OWNVISION_SCRUB_SECONDS": "0"}) as service:
        trainer = CustomVisionTrainingClient(
            service.endpoint, ApiKeyCredentials(in_headers={"Training-key": service.training_key})
        )
        project = trainer.create_project("Herbarium")
        for seed in range(3):
            trainer.create_images_from_data(project.id, scene(seed, ("circle",))[0])
        answer = trainer.delete_project(project.id, raw=True).response
        address = answer.headers["OwnVision-Receipt"]
        receipt = wait_for(lambda: httpx.get(address).json(), lambda found: found["state"] == "signed", 180.0)
        said = receipt["statement"]
        assert said["subjects"] == {"projects": [project.id]}
        assert said["erased"]["images"]["count"] == 3
        assert said["erased"]["images"]["bytes"] > 0
        key = httpx.get(f"{service.endpoint}/receipts/key").json()["publicKey"]
        assert not (service.data / "objects" / project.id).exists()

        file = tmp_path / "receipt.json"
        file.write_text(json.dumps(receipt))
        # Offline; by the data folder; with all before it.
        assert _verify(str(file), "--public-key", key) == (0, f"{receipt['id']}  number 1: in order\n")
        assert _verify(str(file), "--data", str(service.data))[0] == 0
        assert _verify(receipt["id"], "--data", str(service.data))[0] == 0
        code, said_so = _verify(str(file))
        assert (code, key in said_so) == (0, True)
        receipt["statement"]["erased"]["images"]["count"] = 4
        file.write_text(json.dumps(receipt))
        code, said_so = _verify(str(file), "--public-key", key)
        assert (code, "altered" in said_so) == (1, True)
