"""The SDK sets a container and a queue; the worker tells of training and export there."""

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from azure.cognitiveservices.vision.customvision.training.models import CustomVisionErrorException

from tests.sdk.conftest import scene, trained, wait_for

if TYPE_CHECKING:
    from tests.azurite import Azurite

pytestmark = pytest.mark.service
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"


def test_a_queue_hears_of_training_and_export(trainer: Any, azurite: "Azurite") -> None:
    name = f"test-{uuid4()}"
    addresses = {
        "export_model_container_uri": azurite.container(name),
        "notification_queue_uri": azurite.queue(name),
    }
    project = trainer.create_project("Told", domain_id=COMPACT, **addresses)
    for setting, address in addresses.items():
        assert getattr(trainer.get_project(project.id).settings, setting) == address
    for shape in ("circle", "square"):
        tag = trainer.create_tag(project.id, shape)
        for seed in range(5):
            trainer.create_images_from_data(project.id, scene(seed, (shape,))[0], tag_ids=[tag.id])
    iteration = trained(trainer, project, trainer.train_project(project.id))
    trainer.export_iteration(project.id, iteration.id, "ONNX")
    messages = wait_for(lambda: [json.loads(text) for text in azurite.texts(name)], lambda found: len(found) == 3)
    assert [message["type"] for message in messages] == ["ConnectionTest", "Training", "Export"]
    uri = messages[2]["Content"].pop("modelUri")
    assert uri.endswith(f"/{name}/{project.id}%20-%20{iteration.id}.ONNX")
    assert messages[2]["Content"] == {
        "projectId": project.id,
        "iterationId": iteration.id,
        "exportStatus": "ExportCompleted",
    }
    assert [blob.name for blob in azurite.blobs(name).list_blobs()] == [f"{project.id} - {iteration.id}.ONNX"]
    # The SDK knows these settings as read-only: an update leaves them as they are.
    updated = trainer.update_project(project.id, trainer.get_project(project.id))
    assert updated.settings.notification_queue_uri == addresses["notification_queue_uri"]
    with pytest.raises(CustomVisionErrorException) as refused:
        trainer.create_project("Mute", notification_queue_uri=azurite.queue(f"{name}-x", "r"))
    assert refused.value.error.code == "BadRequestInvalidUri"
    assert len(azurite.texts(name)) == 3
