"""Every setting in one place: environment variables ``OWNVISION_…`` (nested with ``__``) or command options."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ownvision.limits import Limits


class Settings(BaseSettings):
    """What a person can set. `docs/settings.md` lists each; the test suite fails when one is missing there."""

    model_config = SettingsConfigDict(env_prefix="OWNVISION_", env_nested_delimiter="__", extra="forbid")

    data: Path = Field(Path("data"), description="Folder that holds database, objects and keys")
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on")
    public_url: str | None = Field(None, description="Address given out in URIs; default: the one that was called")
    database_url: str | None = Field(None, description="SQLAlchemy address; default: SQLite in the data folder")
    account_name: str = Field("owner", description="User name of the account that the first start creates")
    account_email: str = Field("owner@localhost", description="E-mail of the account that the first start creates")
    tier: str = Field("Unlimited", description="Tier of new accounts: Unlimited, F0 or S0")
    uri_hours: int = Field(24, ge=1, description="Hours an image or download address stays valid")
    prediction_days: int = Field(30, ge=1, description="Days a stored prediction is kept")
    suggestion_days: int = Field(30, ge=1, description="Days suggested tags and regions are kept")
    takeout_days: int = Field(7, ge=1, description="Days a takeout is kept")
    audit_days: int = Field(365, ge=1, description="Days an entry of the audit trail is kept")
    job_days: int = Field(90, ge=1, description="Days the record of a job is kept after it ended")
    project_token_days: int = Field(7, ge=1, description="Days a token of ExportProject is valid")
    url_allow: list[str] = Field(
        [],
        description="Networks (CIDR) that image URLs, tokens, storage and webhooks may lead to, though private",
    )
    url_timeout: float = Field(20.0, gt=0, description="Seconds to fetch one image by URL, or to send one message")
    smtp_host: str | None = Field(None, description="Mail server; without one no mail is sent and no address kept")
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="Encryption to the mail server: starttls, tls (from the first byte, port 465) or none"
    )
    smtp_user: str | None = Field(None, description="User name at the mail server; default: no login")
    smtp_password: str | None = Field(None, repr=False, description="Password at the mail server")
    smtp_from: str = Field("ownvision@localhost", description="Sender of mails")
    min_free_bytes: int = Field(256 * 2**20, ge=0, description="Free space below which uploads are refused")
    body_timeout: float = Field(60.0, gt=0, description="Seconds without a byte after which a request body is given up")
    body_rate: int = Field(
        4096, ge=0, description="Bytes per second that a request body must bring, on average after `BODY_TIMEOUT`"
    )
    cors_origins: list[str] = Field(["*"], description="Origins whose web pages may call the service; `[]`: none")
    job_lease: float = Field(20.0, gt=0, description="Seconds a worker may be silent before its job is taken up again")
    scrub_seconds: float = Field(
        60.0, ge=0, description="Seconds between two rewritings of the database for receipts that wait, at least"
    )
    threads: int = Field(0, ge=0, description="Threads of one model; 0: as many as the cores it may use, 8 at most")
    weights: Path | None = Field(None, description="Folder of further backbones; default: `weights` in the data folder")
    models_cached: int = Field(8, ge=1, description="Published models kept in memory")
    worker: bool = Field(True, description="Whether `serve` also starts the job worker")
    limits: Limits = Limits()

    @property
    def weights_folder(self) -> Path:
        """Where backbones beside the built-in ones lie."""
        return self.weights or self.data / "weights"

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'ownvision.db'}"
