"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import (
    account,
    erasure,
    holds,
    images,
    jobs,
    lineage,
    receipts,
    retention,
    takeouts,
    travel,
    webhook,
)

ROUTERS: tuple[APIRouter, ...] = (
    account.router,
    erasure.router,
    holds.router,
    images.router,
    jobs.router,
    lineage.router,
    receipts.public,
    receipts.router,
    retention.router,
    takeouts.router,
    travel.router,
    webhook.router,
)
