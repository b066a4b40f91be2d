"""The main job of custom-vision-client, unmodified: classify pictures after training on them; runs in its environment.

It speaks v1.0 and its host is fixed, so the environment names a proxy that leads to the service (`gateway.py`).
"""

import json
import sys
import time
from pathlib import Path

from custom_vision_client import PredictionClient, PredictionConfig, TrainingClient, TrainingConfig
from custom_vision_client.exceptions import TrainingError

REGION = "southcentralus"


def main():
    facts = json.loads(Path(sys.argv[1]).read_text())
    pictures = Path(facts["pictures"])
    found = {}
    trainer = TrainingClient(TrainingConfig(REGION, facts["training_key"]))
    project = trainer.create_project(f"custom-vision-client-{time.time_ns()}")
    found["project"] = project._asdict()
    found["tags"] = [trainer.create_tag(project.Id, name)._asdict() for name in ("red", "blue")]
    found["taken tag"] = trainer.create_tag(project.Id, "red")
    for name in ("red", "blue"):
        paths = [str(pictures / f"{name}_{number:02}.jpg") for number in range(10)]
        found[f"{name} images"] = trainer.add_training_images(project.Id, paths, name)._asdict()
    model = trainer.trigger_training(project.Id)
    found["training"] = model._asdict()
    try:
        trainer.trigger_training(project.Id)
    except TrainingError as error:
        found["trained again"] = str(error)

    predictor = PredictionClient(PredictionConfig(REGION, project.Id, facts["prediction_key"]))
    deadline = time.monotonic() + 240
    while "file" not in found:
        # It has no call for the state of a training: a person tries until the model answers.
        try:
            answer = predictor.classify_image(str(pictures / "red_20.jpg"), model.Id)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            found["file"] = [each._asdict() for each in answer]
    answer = predictor.classify_image(f"{facts['pictures_url']}/blue_20.jpg", model.Id)
    found["url"] = [each._asdict() for each in answer]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
