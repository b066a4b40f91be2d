"""Every limit of the service, from the original's published table (`reference/behaviour.md` §2).

`Limits` always hold. A `Tier`'s counts and rates hold only for an account of that tier; the default tier is
``Unlimited``. Both are settings: ``OWNVISION_LIMITS__<NAME>`` overrides one of `Limits`.
"""

from dataclasses import dataclass

from pydantic import BaseModel, Field


class Limits(BaseModel):
    """Sizes, minima and maxima that hold for every account."""

    training_image_bytes: int = Field(6_000_000, description="Largest image for training and quick test, in bytes")
    prediction_image_bytes: int = Field(4_000_000, description="Largest image for prediction, in bytes")
    image_side: int = Field(10_240, le=10_240, description="Longest side of an image, in pixels")
    image_aspect: float = Field(25.0, le=25.0, description="Largest ratio of the longer to the shorter side")
    batch_images: int = Field(64, description="Images in one upload batch")
    batch_tags: int = Field(20, description="Tags for all images of one batch, or in one filter")
    batch_image_tags: int = Field(128, description="Entries in one CreateImageTags batch")
    batch_regions: int = Field(64, description="Regions created or deleted in one batch")
    batch_ids: int = Field(256, description="Image ids in one query, metadata update or delete")
    batch_untag_images: int = Field(64, description="Image ids in one DeleteImageTags call")
    batch_predictions: int = Field(64, description="Predictions deleted in one call")
    query_tags: int = Field(2, description="Tags combined in one prediction query")
    page: int = Field(256, description="Largest `take`")
    tags_per_image: int = Field(100, description="Tags on one image")
    regions_per_image: int = Field(300, description="Regions on one image")
    predicted_regions: int = Field(300, le=300, description="Boxes in one prediction")
    metadata_pairs: int = Field(10, description="Key-value pairs on one image")
    metadata_key: int = Field(128, description="Characters of a metadata key")
    metadata_value: int = Field(256, description="Characters of a metadata value")
    classification_images_per_tag: int = Field(5, description="Least images per tag to train a classifier")
    detection_images_per_tag: int = Field(15, description="Least images per tag to train a detector")
    name_characters: int = Field(256, description="Characters of a project, tag, iteration or publish name")
    description_characters: int = Field(4_096, description="Characters of a description")


@dataclass(frozen=True)
class Tier:
    """Counts and rates of an account's tier; None is unlimited. Rates are calls per second and key."""

    projects: int | None = None
    images_per_project: int | None = None
    tags_per_project: int | None = None
    iterations_per_project: int | None = None
    predictions_per_month: int | None = None
    predict_stored_per_second: int | None = None
    predict_per_second: int | None = None
    train_per_second: int | None = None
    calls_per_second: int | None = None


TIERS: dict[str, Tier] = {
    "Unlimited": Tier(),
    "F0": Tier(2, 5_000, 50, 20, 10_000, 2, 2, 2, 10),
    "S0": Tier(100, 100_000, 500, 20, None, 10, 20, 10, 10),
}
