"""Exporters: ONNX in, archive out. One module per platform; a platform is offered once its exporter is here."""

PLATFORMS: dict[str, tuple[str | None, ...]] = {"ONNX": (None, "ONNX10", "ONNX12")}
"""Flavors by platform; None stands for leaving the flavor out."""
