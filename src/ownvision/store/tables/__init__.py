"""The rows. One module per noun; importing this package loads them all."""

from ownvision.store.tables.account import Account, ApiKey
from ownvision.store.tables.base import Base
from ownvision.store.tables.blob import Blob
from ownvision.store.tables.image import Image, ImageMetadata, ImageTag, Region
from ownvision.store.tables.iteration import Export, Iteration, IterationTag, Lineage, ScoredImage
from ownvision.store.tables.job import Job
from ownvision.store.tables.notification import Notification
from ownvision.store.tables.prediction import Prediction
from ownvision.store.tables.project import Draft, Project, ProjectExport, Tag
from ownvision.store.tables.rights import AuditEvent, Backup, LegalHold, Receipt, RetentionRule, Takeout
from ownvision.store.tables.suggestion import Suggestion
from ownvision.store.tables.usage import Usage

__all__ = [
    "Account",
    "ApiKey",
    "AuditEvent",
    "Backup",
    "Base",
    "Blob",
    "Draft",
    "Export",
    "Image",
    "ImageMetadata",
    "ImageTag",
    "Iteration",
    "IterationTag",
    "Job",
    "LegalHold",
    "Lineage",
    "Notification",
    "Prediction",
    "Project",
    "ProjectExport",
    "Receipt",
    "Region",
    "RetentionRule",
    "ScoredImage",
    "Suggestion",
    "Tag",
    "Takeout",
    "Usage",
]
