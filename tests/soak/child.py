"""A process that streams to its standard output, to be stopped and continued: `python -m soak.child`."""

import asyncio
import logging
import signal
import sys

from okstream import Credentials, venues
from okstream.encoding import encode
from okstream.simulator import TEST_ACCOUNT
from okstream.stream import Stream


async def stream(dialect: str, url: str, rest_url: str, redundancy: int, wanted: list[str]) -> None:
    """Write all records of `wanted` until SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    credentials = Credentials(TEST_ACCOUNT.key, TEST_ACCOUNT.secret, TEST_ACCOUNT.passphrase)
    venue = venues.simulated(dialect, url, rest_url)
    async with Stream(venue, accounts=credentials, redundancy=redundancy) as source:
        for one in wanted:
            await source.subscribe(one, timeout=60)
        async for record in source:
            sys.stdout.buffer.write(encode(record))
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(stream(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5:]))
    except asyncio.CancelledError:
        sys.exit(0)
