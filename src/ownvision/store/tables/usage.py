"""How much an account has used."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from ownvision.store.tables.base import Base


class Usage(Base):
    """Calls of the prediction API of one account in one month (UTC)."""

    __tablename__ = "usage"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)  # 2026-11
    predictions: Mapped[int]
