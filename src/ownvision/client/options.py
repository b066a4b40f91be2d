"""What the commands that call a running service share: their options, and the connection."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ownvision.client import lookup
from ownvision.client.http import ClientError, Service

Endpoint = Annotated[str, typer.Option(envvar="OWNVISION_ENDPOINT", help="Address of the service")]
TrainingKey = Annotated[str | None, typer.Option(envvar="OWNVISION_TRAINING_KEY", help="Training key")]
PredictionKey = Annotated[str | None, typer.Option(envvar="OWNVISION_PREDICTION_KEY", help="Prediction key")]
Data = Annotated[Path | None, typer.Option(help="Data folder on this machine to take missing keys from")]
Account = Annotated[str | None, typer.Option(help="User name in --data, when it has several accounts")]
LOCAL = "http://127.0.0.1:8000"

# Progress goes to the error stream, so that what a command answers can be piped.
notes = Console(stderr=True)
answers = Console()


def connected(
    endpoint: str, training_key: str | None, prediction_key: str | None, data: Path | None, account: str | None
) -> Service:
    """The service, with the keys given or those of a data folder.

    Raises:
        ClientError: There is no training key.
    """
    if data is not None and not (training_key and prediction_key):
        found = lookup.local_account(data, account)
        training_key = training_key or str(found["trainingKeys"]["primary"])
        prediction_key = prediction_key or str(found["predictionKeys"]["primary"])
    if not training_key:
        raise ClientError("No training key; give --training-key, OWNVISION_TRAINING_KEY or --data.")
    return Service(endpoint, training_key, prediction_key)
