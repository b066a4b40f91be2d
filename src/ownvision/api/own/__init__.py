"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import erasure, images, jobs, receipts, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    erasure.router,
    images.router,
    jobs.router,
    receipts.public,
    receipts.router,
    travel.router,
    webhook.router,
)
