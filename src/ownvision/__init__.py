"""OwnVision: Custom Vision that you own."""

import os

__version__ = "0.1.0"

# onnxruntime's wheels tell Microsoft of every process and model, and keep an identifier of the machine in its temporary
# and home folders, unless this is set before they are loaded (Linux: since 1.29). This service calls out only where it
# is told to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
