"""
The WebSocket under a conversation, as websockets' client with a shorter way for plain frames.

Frames are handed over as they arrive: a subclass of the client's connection overrides the hook that its own
receive queue is fed from, so that between socket and session there is neither a queue nor a task switch. The
hook is not documented API; tests/test_link.py holds what is relied on, and pyproject.toml the upper bound.
"""

import asyncio
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

# First bytes of whole frames: text and binary; close, ping and pong.
_TEXT, _BINARY = 0x81, 0x82
_DATA = frozenset({_TEXT, _BINARY})
_KNOWN = _DATA | {0x88, 0x89, 0x8A}
_MUCH = 64 * 1024
_PIECE = 16 * 1024


class Listener(Protocol):
    """
    What takes the frames of a connection: of at most `cap` bytes each, all `binary` or none; those of one read at once.

    `wake` is set when the connection ends.
    """

    cap: int
    wake: asyncio.Event

    def wall_ns(self) -> int: ...

    def hear(self, frames: list[bytes], binary: bool, recv: int) -> None: ...


class Connection(ClientConnection):
    """
    Hands complete data frames to `listener` as they arrive.

    Reads the plain ones itself, which is most of what costs time here: unfragmented, unmasked, of no extension. The
    parser of `websockets` sees the handshake, control frames, and everything from the first frame on that is not
    plain; until then it stands between two frames. Whatever is against the protocol is thus judged in one place.
    """

    def __init__(self, *args: Any, listener: Listener, **options: Any) -> None:
        super().__init__(*args, **options)
        self.listener = listener
        self._recv = 0
        self._opcode: Opcode | None = None
        self._fragments: list[bytes] = []
        self._plain = False
        self._rest = bytearray()
        self._needed = 2

    def data_received(self, data: bytes) -> None:
        self._recv = self.listener.wall_ns()
        if self._plain:
            self._rest += data
            if len(self._rest) >= self._needed:
                data, self._rest = bytes(self._rest), bytearray()
                self._read(data)
        else:
            opening = self.protocol.state is State.CONNECTING
            # In pieces, so that frames are on their way before the processor's caches are full of later ones.
            for start in range(0, len(data), _PIECE):
                super().data_received(data[start : start + _PIECE])
            if opening and self.protocol.state is State.OPEN and not self.protocol.extensions:
                # Where the answer to the handshake came alone, the parser stands between two frames.
                self._plain = 0 <= data.find(b"\r\n\r\n") == len(data) - 4
        if self.state is not State.OPEN:
            self.listener.wake.set()
        if len(data) >= _MUCH and not self.transport.is_closing():
            # uvloop reads on for as long as there is something to read; the lanes must have their turns, too.
            self.transport.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _read(self, data: bytes) -> None:
        at, size, cap = 0, len(data), self.listener.cap
        run, frames = _TEXT, list[bytes]()
        self._needed = 2
        while size - at >= 2:
            kind, length, start = data[at], data[at + 1], at + 2
            masked = length > 127
            if length == 126 and size - at >= 4:
                start = at + 4
                length = data[at + 2] << 8 | data[at + 3]
            elif length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start])
            stop = start + length
            if kind == run and not masked and length <= cap and stop <= size:
                frames.append(data[start:stop])
                at = stop
                continue
            if masked or length > cap or kind not in _KNOWN:
                self._plain = False
            elif stop > size:
                self._needed = stop - at
                break
            frames = self._heard(frames, run)
            if self._plain:
                if kind in _DATA:
                    run = kind
                    continue
                super().data_received(data[at:stop])
                at = stop
                self._plain = self.protocol.state is State.OPEN
            if not self._plain:
                super().data_received(data[at:])
                return
        self._heard(frames, run)
        self._rest += data[at:]

    def _heard(self, frames: list[bytes], kind: int) -> list[bytes]:
        """Hand `frames` over, all of one kind; return where the next are put."""
        if frames:
            self.listener.hear(frames, kind == _BINARY, self._recv)
        return []

    def process_event(self, event: Event) -> None:
        if type(event) is not Frame or event.opcode > Opcode.BINARY:
            super().process_event(event)
        elif self._opcode is None and event.fin:
            self.listener.hear([bytes(event.data)], event.opcode is Opcode.BINARY, self._recv)
        else:
            self._fragment(event)

    def _fragment(self, event: Frame) -> None:
        if event.opcode is not Opcode.CONT:
            self._opcode, self._fragments = event.opcode, []
        self._fragments.append(bytes(event.data))
        if event.fin:
            opcode, self._opcode = self._opcode, None
            self.listener.hear([b"".join(self._fragments)], opcode is Opcode.BINARY, self._recv)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.listener.wake.set()
