"""The data map: every kind of data that an installation holds, as one table.

`docs/data-map.md`, ``GET /api/account/data`` and `ownvision data show` are made from it. A test runs a real
installation and fails when there is a table, column, object, file, log field, metric, cache or term that stands in no
row here.
"""

from dataclasses import dataclass

KEPT_WITH_IMAGE = "while the workspace or an iteration has the image"
KEPT_WITH_ITERATION = "until the iteration goes"
KEPT_WITH_PROJECT = "until the project goes"
KEPT_WITH_ACCOUNT = "until the account goes"


@dataclass(frozen=True)
class Rows:
    """Columns of a table of the database.

    Attributes:
        table: Its name.
        columns: Their names.
        counted: The column of which each value that is there counts as one; "*": each row; "": nothing is counted.
    """

    table: str
    columns: tuple[str, ...]
    counted: str = "*"

    def __str__(self) -> str:
        return f"table `{self.table}`: {', '.join(f'`{column}`' for column in self.columns)}"


@dataclass(frozen=True)
class Objects:
    """Sealed files (AES-256-GCM) of the object store.

    Attributes:
        kind: Of the ledger (`blobs.kind`).
        name: Of the file below its prefix; ``*`` stands for anything.
        path: Where it lies, for a person.
        sized: The table whose column `size` says how large each is before it is sealed; "": each file is looked at.
        alike: Whether all files of one name are equally large.
    """

    kind: str
    name: str
    path: str
    sized: str = ""
    alike: bool = False

    def __str__(self) -> str:
        return f"`objects/{self.path}`, sealed"


@dataclass(frozen=True)
class Notes:
    """Kinds of the ledger that own no file: they note what was erased as rows or as a whole, or was replaced."""

    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return f"entries of kind {', '.join(f'`{kind}`' for kind in self.kinds)} own no file"


@dataclass(frozen=True)
class Files:
    """Files of the data folder.

    Attributes:
        pattern: Its path, "" where it has no name; ``{project}`` and ``{account}`` stand for an id, ``*`` for anything.
        sealed: Whether what it holds is encrypted.
        nameless: It has no name while it is there: nobody else can open it, and it goes with its process.
    """

    pattern: str
    sealed: bool = False
    nameless: bool = False

    def __str__(self) -> str:
        if self.nameless:
            return "a nameless file in the data folder"
        return f"`{self.pattern}`{', sealed' if self.sealed else ''}"


@dataclass(frozen=True)
class Log:
    """Fields of the lines on the error stream: of requests, or of all else."""

    of: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return f"lines of {self.of}: {', '.join(f'`{field}`' for field in self.fields)}"


@dataclass(frozen=True)
class Metric:
    """A metric and its labels; `name` may end in ``*``."""

    name: str
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"`{self.name}`{' by ' + ', '.join(self.labels) if self.labels else ''}"


@dataclass(frozen=True)
class Memory:
    """What a process remembers while it runs: by the class or function that does."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} (`{self.name}`)"


@dataclass(frozen=True)
class Elsewhere:
    """A place that is not the data folder's."""

    what: str

    def __str__(self) -> str:
        return self.what


Place = Rows | Objects | Notes | Files | Log | Metric | Memory | Elsewhere


@dataclass(frozen=True)
class Kind:
    """A kind of data.

    Attributes:
        name: Unique.
        what: What it is, in plain words.
        places: Where it lives.
        why: What it is kept for.
        kept: For how long, in words; where a retention rule holds, what ends it besides.
        view: How to see it: operations of the API by name, ``GET /api/…``, commands.
        export: Where in a takeout it is; "": it is not in it, `without` says why.
        delete: What removes it: operations by name, ``DELETE /api/…``, commands.
        without: Why it can't be seen, taken out or deleted on its own.
        retention: The kind's name in `retention.TERMS`.
        setting: The setting that says for how long, where no rule can.
        original: Whether the original's table of data had it.
    """

    name: str
    what: str
    places: tuple[Place, ...]
    why: str
    kept: str
    view: tuple[str, ...] = ()
    export: str = ""
    delete: tuple[str, ...] = ()
    without: str = ""
    retention: str | None = None
    setting: str = ""
    original: bool = False


def rows(table: str, columns: str, counted: str = "*") -> Rows:
    """`Rows` with the columns in one text."""
    return Rows(table, tuple(columns.split()), counted)


_PROJECT = "projects/…"

ORIGINAL: tuple[Kind, ...] = (
    Kind(
        "account info",
        "user name, e-mail address and tier of the account",
        (rows("accounts", "id user_name email tier prediction_resource_id created closed"),),
        "to show whose the keys and the projects are",
        KEPT_WITH_ACCOUNT,
        ("GetAccountInfo", "ownvision account show"),
        "account.json",
        ("DELETE /api/account", "ownvision erase account"),
        original=True,
    ),
    Kind(
        "iteration details",
        "what an iteration was trained with and how its training went: domain, type, time, budget, chosen tags, counts",
        (
            rows(
                "iterations",
                "revision domain_id classification_type training_type reserved_budget_in_hours training_seconds "
                "selected_tags custom_base_model pipeline error image_count tagged_count",
            ),
        ),
        "to know what a model learned from, and whether training again would change anything",
        KEPT_WITH_ITERATION,
        ("GetIteration",),
        f"{_PROJECT}/iterations/N/iteration.json",
        ("DeleteIteration", "DeleteProject"),
        original=True,
    ),
    Kind(
        "iteration performance",
        "precision, recall, average precision; computed from the per-image scores when asked for. Of an iteration that "
        "came from elsewhere: the figures that were measured there",
        (rows("iterations", "origin trained_at", "trained_at"),),
        "to know how good a model is",
        KEPT_WITH_ITERATION,
        ("GetIterationPerformance",),
        f"{_PROJECT}/iterations/N/performance.json",
        ("DeleteIteration", "DeleteProject"),
        original=True,
    ),
    Kind(
        "list of iterations",
        "name, number, state and times of each training, and by which name it is published",
        (
            rows(
                "iterations",
                "id project_id number name status created last_modified trained_at publish_name publish_resource_id "
                "is_default",
            ),
        ),
        "to choose a model and to reach it",
        KEPT_WITH_ITERATION,
        ("GetIterations",),
        f"{_PROJECT}/iterations/N/iteration.json",
        ("DeleteIteration", "ownvision erase iteration", "UnpublishIteration", "DeleteProject"),
        original=True,
    ),
    Kind(
        "projects",
        "name, description and settings of a project; its counters; whether it is being deleted",
        (
            rows(
                "projects",
                "id account_id name description domain_id classification_type target_export_platforms augmentation "
                "created last_modified revision image_count tagged_count iterations_made status closed erasure_policy",
            ),
        ),
        "everything belongs to a project",
        KEPT_WITH_PROJECT,
        ("GetProjects", "GetProject"),
        f"{_PROJECT}/project.json",
        ("DeleteProject", "ownvision erase project"),
        original=True,
    ),
    Kind(
        "tags",
        "name, description and type of a tag of the workspace",
        (rows("tags", "id project_id name description type image_count created"),),
        "to say what is on an image",
        "until it is deleted",
        ("GetTags", "GetTag"),
        f"{_PROJECT}/tags.json",
        ("DeleteTag", "ownvision erase tag", "DeleteProject"),
        original=True,
    ),
    Kind(
        "images",
        "the picture as it was uploaded, with all that its file says (of a photo often place and camera); its hash, "
        "size, format, and in which revisions it was there",
        (
            rows("images", "seq id project_id sha256 width height size format created tagged since until"),
            Objects("image", "original", "PROJECT/images/…/ID.original", sized="images"),
        ),
        "to train on, and to look at",
        KEPT_WITH_IMAGE,
        ("GetImages", "GetTaggedImages", "GetUntaggedImages", "GetImagesByIds"),
        f"{_PROJECT}/images/, {_PROJECT}/images.jsonl",
        (
            "DeleteImages",
            "ownvision erase image",
            "ownvision person erase",
            "DeleteIteration",
            "DeleteProject",
        ),
        original=True,
    ),
    Kind(
        "exports",
        "an archive of a model for one platform, and that it was asked for",
        (
            rows("exports", "id iteration_id platform flavor status error created archive_id"),
            Objects("export", "archive.zip", "PROJECT/exports/ID/archive.zip"),
        ),
        "to run the model elsewhere",
        KEPT_WITH_ITERATION,
        ("GetExports",),
        f"{_PROJECT}/iterations/N/exports/, {_PROJECT}/iterations/N/exports.json",
        (
            "DELETE /api/projects/{projectId}/iterations/{iterationId}/exports/{exportId}",
            "ownvision erase export",
            "DeleteIteration",
            "DeleteProject",
        ),
        original=True,
    ),
)

BESIDE: tuple[Kind, ...] = (
    Kind(
        "stored predictions",
        "a picture that was sent to be predicted, what was answered, when, and by which application",
        (
            rows(
                "predictions",
                "id project_id iteration_id domain_id application created uncertainty predictions sha256 width height "
                "size format",
            ),
            Objects("prediction", "original", "PROJECT/predictions/…/ID.original", sized="predictions"),
        ),
        "to look at what the model gets wrong, and to train on it; nothing is stored by the `nostore` operations",
        "or until it becomes a training image, or its iteration or project goes",
        ("QueryPredictions",),
        f"{_PROJECT}/predictions.jsonl, {_PROJECT}/predictions/",
        ("DeletePrediction", "ownvision erase prediction", "CreateImagesFromPredictions", "DeleteProject"),
        retention="predictions",
    ),
    Kind(
        "regions",
        "the boxes on an image, and in which revisions they were there",
        (rows("regions", "seq id project_id image_seq tag_id left top width height created since until"),),
        "to train detectors",
        "while the workspace or an iteration has it",
        ("GetImages",),
        f"{_PROJECT}/images.jsonl",
        ("DeleteImageRegions", "DeleteImages", "DeleteProject"),
    ),
    Kind(
        "image–tag links",
        "which image carries which tag, and in which revisions it did",
        (rows("image_tags", "id project_id image_seq tag_id created since until"),),
        "to train on",
        "while the workspace or an iteration has it",
        ("GetImages",),
        f"{_PROJECT}/images.jsonl",
        ("DeleteImageTags", "DeleteTag", "DeleteImages", "DeleteProject"),
    ),
    Kind(
        "metadata",
        "pairs of key and value that were given with an image",
        (rows("image_metadata", "image_seq key project_id value"),),
        "to find images by",
        KEPT_WITH_IMAGE,
        ("GetImages",),
        f"{_PROJECT}/images.jsonl",
        ("UpdateImageMetadata", "DeleteImages", "DeleteProject"),
    ),
    Kind(
        "file names",
        "the name that an image's file had when it was uploaded",
        (rows("images", "file_name", "file_name"),),
        "to give images back under their names, and to find them by",
        KEPT_WITH_IMAGE,
        ("GET /api/projects/{projectId}/images/{imageId}",),
        f"{_PROJECT}/images.jsonl",
        ("DeleteImages", "DeleteProject"),
    ),
    Kind(
        "uploaders",
        "by which key an image was uploaded (the key's id)",
        (rows("images", "uploaded_by", "uploaded_by"),),
        "to know where an image came from",
        KEPT_WITH_IMAGE,
        ("GET /api/projects/{projectId}/images/{imageId}",),
        f"{_PROJECT}/images.jsonl",
        ("DeleteImages", "DeleteProject"),
    ),
    Kind(
        "restrictions",
        "that an image is kept, but not learned from, and since when",
        (rows("images", "restricted", "restricted"),),
        "a person may ask for it (GDPR, article 18)",
        KEPT_WITH_IMAGE,
        ("GET /api/projects/{projectId}/images/{imageId}",),
        f"{_PROJECT}/images.jsonl",
        ("DeleteImages", "DeleteProject"),
    ),
    Kind(
        "smaller copies",
        "thumbnail and resized copy of an image or a stored prediction, without the original's EXIF",
        (
            Objects("image", "resized", "PROJECT/images/…/ID.resized"),
            Objects("image", "thumbnail", "PROJECT/images/…/ID.thumbnail"),
            Objects("prediction", "resized", "PROJECT/predictions/…/ID.resized"),
            Objects("prediction", "thumbnail", "PROJECT/predictions/…/ID.thumbnail"),
        ),
        "to show pages of images fast; made when first looked at",
        "with the picture",
        ("GetImages", "QueryPredictions"),
        delete=("DeleteImages", "DeletePrediction", "DeleteProject"),
        without="they are made from the picture, which is in a takeout",
    ),
    Kind(
        "embeddings",
        "features of an image, float16; they can identify a person, so they are encrypted like it",
        (Objects("image", "embedding-*", "PROJECT/images/…/ID.embedding-…", alike=True),),
        "to train in seconds, and to find images that look alike; made soon after upload, or at training",
        KEPT_WITH_IMAGE,
        delete=("DeleteImages", "DeleteIteration", "DeleteProject"),
        without="no person can read them, and they are made from the picture, which is in a takeout",
    ),
    Kind(
        "suggestions",
        "tags, probabilities and boxes that an iteration suggests for an image nobody tagged yet",
        (rows("suggestions", "image_seq iteration_id project_id created uncertainty predictions"),),
        "to tag faster",
        "or until the image or iteration goes",
        ("QuerySuggestedImages",),
        f"{_PROJECT}/suggestions.jsonl",
        ("DeleteImages", "DeleteIteration", "DeleteProject"),
        retention="suggestions",
    ),
    Kind(
        "drafts",
        "that live learning is switched on for a project, since when, and what it learned of the workspace last: a "
        "score, and the most probable tags of images nobody tagged yet. No model is kept",
        (
            rows(
                "drafts",
                "project_id since forgotten revision basis outcome reason learned score complete suggested",
            ),
        ),
        "to suggest tags while a person tags",
        "or until live learning is switched off, or the project goes; what was learned goes with the next change, and "
        "at once when an image, a tag, or a tag of an image is deleted",
        (
            "GET /api/projects/{projectId}/draft",
            "GET /api/projects/{projectId}/draft/suggestions",
            "ownvision live show",
        ),
        f"{_PROJECT}/restore/extra.json",
        (
            "PUT /api/projects/{projectId}/live-learning",
            "ownvision live off",
            "DeleteImages",
            "DeleteImageTags",
            "DeleteTag",
            "DeleteProject",
        ),
        retention="drafts",
    ),
    Kind(
        "per-image scores",
        "what a model that had not seen an image said of it, beside what it is; of an image that was erased since the "
        "pair stays without the image, so that the iteration's figures don't move",
        (rows("scored_images", "id iteration_id model_id image_id fold scores truth"),),
        "to compute an iteration's performance at any threshold",
        KEPT_WITH_ITERATION,
        ("GetImagePerformances",),
        f"{_PROJECT}/iterations/N/image-performances.jsonl",
        ("DeleteIteration", "DeleteProject"),
    ),
    Kind(
        "learned tags",
        "the tags as an iteration learned them: a rename afterwards does not change them",
        (rows("iteration_tags", "iteration_id tag_id position name description type image_count"),),
        "to name what the model finds",
        KEPT_WITH_ITERATION,
        ("GetTags",),
        f"{_PROJECT}/iterations/N/tags.json",
        ("DeleteIteration", "DeleteProject"),
    ),
    Kind(
        "models",
        "the network that an iteration's training made; tags stand in it by id",
        (
            Objects("iteration", "model.onnx", "PROJECT/iterations/ID/model.onnx"),
            rows("iterations", "model_id", ""),
        ),
        "to predict with",
        KEPT_WITH_ITERATION,
        ("ExportIteration",),
        f"{_PROJECT}/iterations/N/model.onnx",
        ("DeleteIteration", "DeleteProject"),
    ),
    Kind(
        "what a training tried",
        "of an advanced training, and of one that went on from another iteration: each attempt in words, its score on "
        "images held out, its seconds, whether it was chosen",
        (rows("iterations", "search", ""),),
        "to know how the model was found",
        KEPT_WITH_ITERATION,
        ("GET /api/projects/{projectId}/iterations/{iterationId}/search", "ownvision search"),
        f"{_PROJECT}/iterations/N/search.json",
        ("DeleteIteration", "DeleteProject"),
    ),
    Kind(
        "lineage",
        "ids of images that an iteration learned from and that were erased since, by which receipt, and whether it was "
        "fitted again without them; ids of images that it left out because they are restricted",
        (
            rows("lineage", "iteration_id image_id receipt unlearned"),
            rows("iterations", "erased_count unlearning left_out", ""),
        ),
        "to know which models learned from what is no longer there, and to make them unlearn it",
        KEPT_WITH_ITERATION,
        (
            "GET /api/projects/{projectId}/iterations/{iterationId}/lineage",
            "POST /api/projects/{projectId}/lineage",
            "ownvision lineage show",
        ),
        f"{_PROJECT}/restore/iterations/",
        ("DeleteIteration", "DeleteProject"),
    ),
    Kind(
        "jobs",
        "slow work that is to be done or was done: what it was about, how far it came, why it failed; of a training "
        "the steps, losses and hold-out scores of its course",
        (
            rows(
                "jobs",
                "id account_id project_id kind lane subject priority state payload progress curve attempts token "
                "lease_until cancel_requested error created started finished asked_by",
            ),
        ),
        "so that work survives a crash, and its result can be asked for",
        "after it ended, or until the project goes",
        (
            "GET /api/projects/{projectId}/jobs",
            "GET /api/projects/{projectId}/import",
            "GET /api/projects/{projectId}/iterations/{iterationId}/progress",
        ),
        delete=("DeleteProject", "ownvision erase project"),
        without="an open job is part of what it makes; cancel it with `POST /api/jobs/{jobId}/cancel`",
        retention="jobs",
    ),
    Kind(
        "preflights",
        "what is wrong with a project's data, by ids of images and tags, and what a training would take",
        (rows("jobs", "result", "result"),),
        "to see before a training what would spoil it",
        "until another one is asked for, an image of the project is deleted or erased, or as jobs are",
        ("GET /api/projects/{projectId}/preflight", "ownvision preflight"),
        delete=("DeleteImages", "DeleteProject", "ownvision erase project"),
        without="it is computed from the images and tags, and can be computed again",
    ),
    Kind(
        "import tokens",
        "the token by which a project is fetched from another service, encrypted",
        (rows("jobs", "payload", ""),),
        "to fetch the project",
        "until the import ends",
        delete=("DeleteProject", "ownvision erase project"),
        without="it opens what is another's",
    ),
    Kind(
        "API keys",
        "two training keys and two prediction keys: the SHA-256 of each to know it by, and itself, encrypted",
        (rows("api_keys", "id account_id kind slot sha256 sealed created"),),
        "to let the account's programs in, and nobody else's",
        "until replaced, or the account goes",
        ("GetAccountInfo", "ownvision account show"),
        "account.json",
        ("ownvision account rotate-key", "DELETE /api/account", "ownvision erase account"),
    ),
    Kind(
        "usage counts",
        "how many predictions the account made in each month",
        (rows("usage", "account_id month predictions"),),
        "for the quota of a tier that has one",
        KEPT_WITH_ACCOUNT,
        ("GetAccountInfo",),
        "account.json",
        ("DELETE /api/account", "ownvision erase account"),
    ),
    Kind(
        "project tokens",
        "that a token was given by which the project can be copied: at which revision, until when, how much it held",
        (
            rows(
                "project_exports",
                "id project_id revision image_count tag_count region_count iteration_count created expires",
            ),
        ),
        "so that a token can be revoked; nothing is copied when it is made",
        "or until it is revoked, or the project goes",
        ("GET /api/projects/{projectId}/tokens",),
        delete=("DELETE /api/projects/{projectId}/tokens/{tokenId}", "DeleteProject"),
        without="a token opens the project: it does not go into an archive",
        retention="tokens",
    ),
    Kind(
        "notification addresses",
        "container, queue and webhook of a project, with the signature or secret that each needs; the e-mail address "
        "that a training is to write to. Each encrypted",
        (
            rows("projects", "export_container", "export_container"),
            rows("projects", "notification_queue", "notification_queue"),
            rows("projects", "webhook", "webhook"),
            rows("iterations", "notify_email", "notify_email"),
        ),
        "to tell others when a training or an export ends",
        "until taken away or the project goes; an e-mail address until the training ends",
        ("GetProject", "GET /api/projects/{projectId}/webhook"),
        f"{_PROJECT}/project.json",
        ("UpdateProject", "DELETE /api/projects/{projectId}/webhook", "DeleteProject"),
    ),
    Kind(
        "notifications waiting",
        "what is still to be told to whom: ids and states, no names; the e-mail address it goes to, encrypted",
        (rows("notifications", "seq id project_id channel event recipient attempts due created"),),
        "so that a message survives a crash, and a receiver that is down",
        "until it is out, a day at most",
        delete=("DELETE /api/projects/{projectId}/webhook", "DeleteProject"),
        without="it lives for moments",
    ),
    Kind(
        "takeouts",
        "an archive of the account or a project, its size and hash, and what was asked for",
        (
            rows(
                "takeouts",
                "id account_id project_id selection status error size sha256 counts created",
            ),
            Objects("takeout", "archive.zip", "PROJECT or ACCOUNT/takeouts/ID/archive.zip"),
        ),
        "to be fetched",
        "or until it is deleted, or what it was made of goes",
        ("GET /api/account/takeouts",),
        "",
        ("DELETE /api/account/takeouts/{takeoutId}",),
        without="a takeout is in no other",
        retention="takeouts",
    ),
    Kind(
        "audit events",
        "who viewed, exported, changed or deleted what, and when: by random ids, without names or contents",
        (
            rows(
                "audit_events",
                "seq account_id at actor action operation project_id target count request_id",
            ),
        ),
        "to answer who did something",
        "or until the account goes",
        ("GET /api/account/audit", "ownvision audit show"),
        "audit.jsonl",
        without="nobody may take one away before its time",
        retention="audit",
    ),
    Kind(
        "receipts",
        "what was erased, when and by which key, by random ids; no personal data",
        (
            rows(
                "receipts",
                "id account_id number state operation key_id subjects erased kept asked signed statement signature "
                "settled counted learned",
            ),
        ),
        "they are the proof of an erasure, and outlive the account",
        "for ever",
        ("GET /api/receipts", "GET /receipts/{receiptId}", "ownvision receipt list"),
        export="receipts.jsonl",
        without="a proof that can be deleted proves nothing",
    ),
    Kind(
        "retention rules",
        "for how many days a kind of data is kept",
        (rows("retention_rules", "id account_id project_id kind days"),),
        "to be kept to",
        "until taken away; until the account or project goes",
        ("GET /api/account/retention", "GET /api/projects/{projectId}/retention", "ownvision retention show"),
        "account.json",
        (
            "DELETE /api/account/retention",
            "DELETE /api/projects/{projectId}/retention",
            "ownvision retention unset",
        ),
    ),
    Kind(
        "legal holds",
        "that nothing may be erased, and why",
        (rows("legal_holds", "id account_id project_id reason created"),),
        "to keep what a court or an authority may ask for",
        "until it is lifted",
        ("GET /api/account/holds", "GET /api/projects/{projectId}/holds", "ownvision hold list"),
        "account.json",
        (
            "DELETE /api/account/holds/{holdId}",
            "DELETE /api/projects/{projectId}/holds/{holdId}",
            "ownvision hold lift",
        ),
    ),
    Kind(
        "backups",
        "that a backup was made, and when; where it lies is not kept. What is in one is what is in the data folder",
        (
            rows("backups", "id made", ""),
            Elsewhere("folders that the operator names: one for keys, one for the rest"),
        ),
        "receipts say how far back backups reach",
        "the note for ever; of keys only the newest backup is to be kept",
        without="they are the operator's",
    ),
)

MACHINERY: tuple[Kind, ...] = (
    Kind(
        "encryption keys",
        "the keys that objects and secrets are encrypted with, each wrapped by the one above it; the key that signs "
        "receipts; installation keys that were replaced",
        (
            Files("keys/installation.key"),
            Files("keys/installation.next"),
            Files("keys/retired/*.key", sealed=True),
            Files("keys/receipts.key", sealed=True),
            Files("keys/accounts/{account}.key", sealed=True),
            Files("keys/projects/{project}.key", sealed=True),
        ),
        "without its key nothing of a project or account can be read, wherever a copy may lie",
        "until the project or account goes: it is overwritten and removed then",
        delete=("DeleteProject", "ownvision erase project"),
        without="whoever had them could read everything",
    ),
    Kind(
        "journal of erased ids",
        "ids of what was erased, nothing else about it",
        (Files("keys/erased.journal"),),
        "so that a restored backup can be erased again",
        "for ever",
        without="it says only that an id is no more",
    ),
    Kind(
        "ledger of objects",
        "which prefix of the object store belongs to whom, and whether it is to be removed; no content",
        (
            rows("blobs", "prefix kind account_id project_id state due created receipt"),
            Notes(("rows", "tag", "project", "account", "model", "archive")),
        ),
        "so that nothing is lost and nothing is left",
        "with its object, and a day beyond",
        delete=("DeleteImages", "DeletePrediction", "DeleteIteration", "DeleteProject"),
        without="it holds ids only; `ownvision doctor` compares it with the files",
    ),
    Kind(
        "database files",
        "the rows of all tables, the log of the latest changes, the lock between processes; the schema's version",
        (
            Files("ownvision.db"),
            Files("ownvision.db-wal"),
            Files("ownvision.db-shm"),
            Files("ownvision.db-journal"),
            rows("alembic_version", "version_num", ""),
            Elsewhere("with `OWNVISION_DATABASE_URL`: the PostgreSQL server"),
        ),
        "they are what the tables lie in",
        "freed pages are rewritten within minutes of an erasure where it is quiet, else within an hour",
        without="what is in them is listed by table",
    ),
    Kind(
        "copies from Azure under way",
        "what `ownvision import azure` has fetched so far: projects, pictures, predictions, exports; not encrypted, "
        "and readable by the owner only. The training key is not among it",
        (Files("imports/*"),),
        "so that a copy that was broken off goes on where it was",
        "until the copy is done; one that is not gone on with stays until its folder is removed",
        without="it becomes projects; `ownvision doctor` names a copy that nobody is at",
    ),
    Kind(
        "scratch of the database",
        "a copy of the database while it is rewritten after an erasure",
        (Files("etilqs_*"), Files("", nameless=True)),
        "SQLite rewrites a database by copying it",
        "for the seconds it takes; SQLite takes its name away when it makes it",
        without="it goes with its process",
    ),
    Kind(
        "spooled uploads",
        "parts of a request beyond 8 MiB",
        (Files("", nameless=True),),
        "so that a large batch does not lie in memory",
        "until the request ends",
        without="it goes with its request, also after a crash",
    ),
    Kind(
        "files not yet whole",
        "an object, key or ballast while it is written, where the file system knows no nameless files",
        (Files("*/.*"), Files("ballast.new")),
        "so that a file is there whole or not at all",
        "for moments; what a crash leaves is removed with its prefix",
        without="`ownvision doctor` finds what is left",
    ),
    Kind(
        "restore under way",
        "how far the restoring of a backup is, and the receipts that came with the keys",
        (Files("restoring"), Files("restoring.receipts")),
        "no service opens before what was erased since the backup is erased again",
        "until that is done",
        without="it holds no personal data",
    ),
    Kind(
        "ballast",
        "16 MiB of random bytes",
        (Files("ballast"),),
        "given up when the disk is full, so that erasing still works",
        "for ever",
        without="it says nothing",
    ),
    Kind(
        "worker files",
        "empty files by which services, commands and the worker show that they are at work; when the database was last "
        "rewritten",
        (Files("worker.lock"), Files("worker.alive"), Files("scrubbed"), Files("use.lock")),
        "so that only one worker is at work, and erasures are completed",
        "for ever",
        without="they say nothing of anybody",
    ),
    Kind(
        "logs",
        "one line for each request, by the route's template, without address, query, name or key; messages of the "
        "service and its worker, which name things by id; the trace of an unexpected error",
        (
            Log("requests", ("time", "request", "method", "route", "status", "ms")),
            Log("the service", ("time", "level", "logger", "message", "error")),
            Log("the worker", ("levelname", "name", "message")),
        ),
        "to find out what went wrong",
        "the service writes them to its error stream and keeps none: how long is what its operator sets",
        without="they are the operator's, and name no one",
    ),
    Kind(
        "metrics",
        "how many requests there were and how long they took, by route; processor and memory of the process",
        (
            Metric("ownvision_requests", ("method", "route", "status")),
            Metric("ownvision_request_seconds", ("method", "route")),
            Metric("ownvision_requests_running"),
            Metric("process_*"),
        ),
        "to watch the service",
        "until it stops",
        ("GET /metrics",),
        without="they count, and name no one",
    ),
    Kind(
        "working memory",
        "what was read or computed lately, or waits to be written",
        (
            Memory("inference.cache.ModelCache", "models that were used lately; one of an erased iteration is dropped"),
            Memory("api.memo.Memo", "who a key belongs to, which iteration a published name means"),
            Memory("store.keys.KeyStore", "keys of projects"),
            Memory("services.usage.Meter", "predictions counted in the last seconds"),
            Memory("data_rights.audit.Trail", "views of the last half second, by ids"),
            Memory("store.audit._for_driver", "the statement that adds an audit event"),
            Memory("api.limits.Rates", "when each key called in the last second"),
            Memory("store.ledger._ImageIds", "beginnings of the latest image ids"),
            Memory("services.uris._rounded_up", "hours at which addresses end"),
            Memory("services.outbound._tls", "certificates of authorities"),
            Memory("services.frozen.Frozen", "the tags of a training set, in the training's process"),
            Memory("services.live.Features", "embeddings of projects with live learning, as long as their images are"),
            Memory("learning.propose._proposer", "a backbone"),
            Memory("learning.propose._interpolation", "weights of an interpolation"),
            Memory("wire.values._capital", "names of the API's fields"),
            Memory("wire.versions.Version", "what each version of the API serves"),
            Memory("wire.versions.number", "numbers of versions"),
        ),
        "to answer fast",
        "until the process ends; none of it is written anywhere",
        without="it is gone when the service stops",
    ),
    Kind(
        "signed addresses",
        "an address that opens a picture, an export or a takeout without a key until it ends; nothing is stored of it",
        (Elsewhere("wherever whoever was given it keeps it"),),
        "so that a browser can show a picture",
        "as many hours as it works, rounded up",
        without="it opens nothing any more once the picture is erased",
        setting="uri_hours",
    ),
    Kind(
        "settings",
        "name and e-mail of the first account, the mail server's password, the database's address",
        (Elsewhere("the environment of the process, which its operator sets"),),
        "to run the service",
        "as its operator sets",
        without="they are the operator's; none is written to the data folder",
    ),
    Kind(
        "further backbones",
        "networks that the operator put into the weights folder, and how pictures are put into each; nobody's data",
        (Files("weights"), Files("weights/*")),
        "to learn with",
        "as the operator keeps them; a model made of one holds it whole",
        view=("ownvision backbone list",),
        without="they are the operator's, from elsewhere",
    ),
    Kind(
        "temporary and home folders",
        "nothing: whatever is spooled lies in the data folder, where an erasure can see it; what onnxruntime would "
        "keep there, and send to its maker, is switched off",
        (Elsewhere("nowhere"),),
        "named here because it is often forgotten",
        "–",
        without="there is nothing",
    ),
)

KINDS: tuple[Kind, ...] = ORIGINAL + BESIDE + MACHINERY
