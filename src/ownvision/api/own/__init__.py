"""OwnVision's own API under ``/api``: what the original has no operation for. A module per noun."""

from fastapi import APIRouter

from ownvision.api.own import audit, images, jobs, person, travel, webhook

ROUTERS: tuple[APIRouter, ...] = (
    audit.router,
    images.router,
    jobs.router,
    person.router,
    travel.router,
    webhook.router,
)
