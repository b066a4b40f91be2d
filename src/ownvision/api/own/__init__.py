"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import images, jobs, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    images.router,
    jobs.router,
    travel.router,
    webhook.router,
)
