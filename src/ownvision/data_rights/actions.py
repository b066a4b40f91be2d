"""What every operation, job and command does, in one of four words; the audit trail and its documentation read it."""

from dataclasses import dataclass

VIEW, EXPORT, CHANGE, DELETE = "view", "export", "change", "delete"


@dataclass(frozen=True)
class Action:
    """What something does.

    Attributes:
        action: view | export | change | delete.
        noun: The table whose rows it touches: they are counted, and the id of a single new one is the target.
    """

    action: str
    noun: str = ""


def _table(rows: dict[tuple[str, str], str]) -> dict[str, Action]:
    return {name: Action(action, noun) for (action, noun), names in rows.items() for name in names.split()}


# Operations of both APIs and of /api. The target is the path's last id that is not the project's, else what was made.
OPERATIONS = _table(
    {
        (VIEW, "accounts"): "GetAccountInfo GetAccountData GetAudit GetAccountErasure GetReceipts "
        "GetAccountHolds GetAccountRetention",
        (VIEW, ""): "GetDomain GetDomains SearchPerson",
        (DELETE, "accounts"): "EraseAccount",
        (CHANGE, "legal_holds"): "PlaceAccountHold PlaceProjectHold",
        (DELETE, "legal_holds"): "LiftAccountHold LiftProjectHold",
        (CHANGE, "retention_rules"): "PutAccountRetention PutProjectRetention",
        (DELETE, "retention_rules"): "DeleteAccountRetention DeleteProjectRetention",
        (VIEW, "projects"): "GetProject GetProjects GetProjectImport GetProjectTokens GetWebhook GetJobs "
        "GetProjectErasure GetProjectData GetProjectHolds GetProjectRetention GetErasurePolicy GetDraft GetPreflight",
        (EXPORT, "project_exports"): "ExportProject",
        (CHANGE, "projects"): "CreateProject UpdateProject ImportProject PutWebhook PutErasurePolicy PutLiveLearning",
        (DELETE, "projects"): "DeleteProject EraseProject DeleteWebhook",
        (DELETE, "project_exports"): "RevokeProjectToken",
        (CHANGE, "jobs"): "CancelJob CancelTraining StartPreflight",
        (VIEW, "tags"): "GetTag GetTags",
        (CHANGE, "tags"): "CreateTag UpdateTag",
        (DELETE, "tags"): "DeleteTag",
        (VIEW, "images"): "GetImages GetImagesByIds GetImageCount GetTaggedImages GetTaggedImageCount "
        "GetUntaggedImages GetUntaggedImageCount GetImageRecord GetArtifact GetImageRegionProposals",
        (CHANGE, "images"): "CreateImagesFromData CreateImagesFromFiles CreateImagesFromUrls "
        "CreateImagesFromPredictions RestrictPerson",
        (CHANGE, "image_metadata"): "UpdateImageMetadata",
        (CHANGE, "image_tags"): "CreateImageTags",
        (CHANGE, "regions"): "CreateImageRegions",
        (DELETE, "images"): "DeleteImages ErasePerson",
        (DELETE, "image_tags"): "DeleteImageTags",
        (DELETE, "regions"): "DeleteImageRegions",
        (VIEW, "iterations"): "GetIteration GetIterations GetIterationPerformance GetImagePerformances "
        "GetImagePerformanceCount GetExports GetIterationLineage TraceImages GetPerformanceDetail "
        "GetPerformanceCurves GetMostWrongImages CompareIterations GetTrainingProgress GetIterationSearch",
        (CHANGE, "iterations"): "TrainProject UpdateIteration PublishIteration UnpublishIteration RefitIteration "
        "CreateDraftIteration",
        (DELETE, "iterations"): "DeleteIteration",
        (EXPORT, "exports"): "ExportIteration",
        (DELETE, "exports"): "DeleteExport",
        (VIEW, "suggestions"): "QuerySuggestedImages QuerySuggestedImageCount SuggestTagsAndRegions "
        "GetDraftSuggestions",
        (VIEW, "predictions"): "QueryPredictions "
        "ClassifyImageWithNoStore ClassifyImageUrlWithNoStore DetectImageWithNoStore DetectImageUrlWithNoStore "
        "PredictImageWithNoStore PredictImageUrlWithNoStore",
        (CHANGE, "predictions"): "ClassifyImage ClassifyImageUrl DetectImage DetectImageUrl PredictImage "
        "PredictImageUrl QuickTestImage QuickTestImageUrl",
        (DELETE, "predictions"): "DeletePrediction",
        (VIEW, "takeouts"): "GetTakeout GetTakeouts",
        (EXPORT, "takeouts"): "CreateTakeout CreatePersonTakeout",
        (DELETE, "takeouts"): "DeleteTakeout",
    }
)
# Predictions that store nothing: one event says how many within half a second.
COUNTED = frozenset(name for name in OPERATIONS if name.endswith("NoStore"))
# Signed addresses: what they stand for, by the kind of `uris.Resource`.
LINKS = {
    "image": Action(VIEW, "images"),
    "prediction": Action(VIEW, "predictions"),
    "export": Action(EXPORT, "exports"),
    "takeout": Action(EXPORT, "takeouts"),
    "project": Action(EXPORT, "project_exports"),
}
JOBS = {
    "train": Action(CHANGE, "iterations"),
    "embed": Action(CHANGE, "images"),
    "examine": Action(VIEW, "images"),
    "export": Action(EXPORT, "exports"),
    "import": Action(CHANGE, "images"),
    "refit": Action(CHANGE, "iterations"),
    "restore": Action(CHANGE, "images"),
    "takeout": Action(EXPORT, "takeouts"),
    "erase": Action(DELETE, "images"),
}
# Commands that open a data folder.
COMMANDS = {
    "account create": Action(CHANGE, "accounts"),
    "account list": Action(VIEW),
    "account rotate-key": Action(CHANGE, "api_keys"),
    "account show": Action(VIEW),
    "audit export": Action(EXPORT),
    "audit show": Action(VIEW),
    "backup": Action(EXPORT),
    "data export": Action(EXPORT),
    "data import": Action(CHANGE, "images"),
    "data show": Action(VIEW),
    "doctor": Action(VIEW),
    "erase account": Action(DELETE, "accounts"),
    "erase export": Action(DELETE, "exports"),
    "erase image": Action(DELETE, "images"),
    "erase iteration": Action(DELETE, "iterations"),
    "erase prediction": Action(DELETE, "predictions"),
    "erase project": Action(DELETE, "projects"),
    "erase tag": Action(DELETE, "tags"),
    "import azure": Action(CHANGE, "images"),
    "hold lift": Action(DELETE, "legal_holds"),
    "hold list": Action(VIEW),
    "hold place": Action(CHANGE, "legal_holds"),
    "lineage of": Action(VIEW),
    "lineage show": Action(VIEW),
    "live off": Action(CHANGE, "projects"),
    "live on": Action(CHANGE, "projects"),
    "live show": Action(VIEW),
    "person erase": Action(DELETE, "images"),
    "person find": Action(VIEW),
    "person restrict": Action(CHANGE, "images"),
    "person takeout": Action(EXPORT),
    "policy set": Action(CHANGE, "projects"),
    "policy show": Action(VIEW),
    "receipt list": Action(VIEW),
    "receipt show": Action(VIEW),
    "receipt verify": Action(VIEW),
    "restore-backup": Action(CHANGE),
    "rotate-installation-key": Action(CHANGE),
    "retention set": Action(CHANGE, "retention_rules"),
    "retention show": Action(VIEW),
    "retention unset": Action(DELETE, "retention_rules"),
    "search": Action(VIEW),
}
