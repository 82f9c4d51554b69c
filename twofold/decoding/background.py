"""Requests from an event loop: one thread drives the engine for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from twofold.decoding.request import Request
from twofold.decoding.task import Choice


async def choices(request: Request) -> AsyncIterator[Choice]:
    """The request's choices as they become certain. Leaving the loop early, or its task's cancellation,
    cancels the request."""
    loop = asyncio.get_running_loop()
    try:
        while not request.done or request.task.events:
            if not request.task.events:
                await loop.run_in_executor(_driver(), request.engine.drive, request)
            for choice in request.take():
                yield choice
        for choice in request.take():  # raises what went wrong
            yield choice
    finally:
        request.cancel()


@cache
def _driver() -> ThreadPoolExecutor:
    """One thread: whoever comes first steps for all, and the others find their answers there."""
    return ThreadPoolExecutor(1, thread_name_prefix="twofold-engine")
