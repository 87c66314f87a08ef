"""How long a body may take to come: a client that drips holds nothing for ever."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tallybook.kernel.errors import Invalid

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

IDLE_SECONDS = 20.0
"""Longest wait for the next piece of a body."""
WHOLE_SECONDS = 300.0
"""Longest wait for a whole body."""


def within_time(receive: Receive, idle: float = IDLE_SECONDS, whole: float = WHOLE_SECONDS) -> Any:
    """Return how a body is received: in time, or refused ('request-timeout').

    What comes after the body, the client's going away, may take as long as it takes.
    """
    ends, complete = 0.0, False

    async def bounded() -> Message:
        nonlocal ends, complete
        if complete:
            return await receive()
        now = asyncio.get_running_loop().time()
        ends = ends or now + whole
        try:
            async with asyncio.timeout_at(min(ends, now + idle)):
                message = await receive()
        except TimeoutError as error:
            text = "the body took too long to come; send it faster, or less of it"
            raise Invalid(text, code="request-timeout", field="body") from error
        complete = not message.get("more_body")
        return message

    return bounded
