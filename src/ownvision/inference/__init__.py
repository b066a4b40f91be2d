"""Loaded models: predict from encoded images, as they were measured."""

from ownvision.inference.cache import ModelCache
from ownvision.inference.model import Classification, Model, load

__all__ = ["Classification", "Model", "ModelCache", "load"]
