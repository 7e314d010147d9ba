"""Runs the workflows of the shop."""

import asyncio
import logging
from typing import Any

import lockstep
from django.core.management.base import BaseCommand

from shop.workflows import app


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        logging.basicConfig(level=logging.INFO)
        asyncio.run(lockstep.Worker(app).run())
