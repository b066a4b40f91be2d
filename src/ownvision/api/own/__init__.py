"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import (
    account,
    audit,
    drafts,
    erasure,
    holds,
    images,
    jobs,
    lineage,
    performance,
    person,
    preflight,
    progress,
    receipts,
    retention,
    search,
    takeouts,
    travel,
    webhook,
)

ROUTERS: tuple[APIRouter, ...] = (
    account.router,
    audit.router,
    drafts.router,
    erasure.router,
    holds.router,
    images.router,
    jobs.router,
    lineage.router,
    performance.router,
    person.router,
    preflight.router,
    progress.router,
    receipts.public,
    receipts.router,
    retention.router,
    search.router,
    takeouts.router,
    travel.router,
    webhook.router,
)
