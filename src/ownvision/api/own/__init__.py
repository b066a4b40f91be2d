"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import images, jobs, takeouts, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    images.router,
    jobs.router,
    takeouts.router,
    travel.router,
    webhook.router,
)
