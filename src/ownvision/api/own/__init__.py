"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import (
    account,
    audit,
    erasure,
    holds,
    images,
    jobs,
    lineage,
    person,
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
    erasure.router,
    holds.router,
    images.router,
    jobs.router,
    lineage.router,
    person.router,
    receipts.public,
    receipts.router,
    retention.router,
    search.router,
    takeouts.router,
    travel.router,
    webhook.router,
)
