"""`/docs`: what the service says about itself."""

from __future__ import annotations

from fastapi import APIRouter

DESCRIPTION = "City sensor readings as exact time windows."

router = APIRouter()
