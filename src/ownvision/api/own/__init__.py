"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import audit, erasure, images, jobs, lineage, person, receipts, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    audit.router,
    erasure.router,
    images.router,
    jobs.router,
    lineage.router,
    person.router,
    receipts.public,
    receipts.router,
    travel.router,
    webhook.router,
)
