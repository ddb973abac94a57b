"""The plain script that okstream is measured beside: read, inflate, parse, write a line. No checks of any kind."""

import asyncio
import json
import sys
import zlib

from websockets.asyncio.client import connect

from .market import INSTRUMENTS
from .wires import WIRES


async def main(generation: str, url: str) -> None:
    """Print each message with data as one line, until the connection is closed."""
    async with connect(url, max_size=None) as socket:
        await socket.send(WIRES[generation].subscribe(INSTRUMENTS))
        async for frame in socket:
            text = zlib.decompress(frame, -zlib.MAX_WBITS) if isinstance(frame, bytes) else frame
            message = json.loads(text)
            if "data" in message:
                print(json.dumps(message))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
