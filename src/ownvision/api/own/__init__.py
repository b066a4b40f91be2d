"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import account, holds, images, jobs, retention, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    account.router,
    holds.router,
    images.router,
    jobs.router,
    retention.router,
    travel.router,
    webhook.router,
)
