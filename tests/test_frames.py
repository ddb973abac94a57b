"""The link's own way of reading plain frames against the parser of `websockets`: the same bytes, the same outcome."""

import asyncio
import zlib
from itertools import pairwise
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.uri import parse_uri
from websockets.utils import accept_key

from okstream.inflate import CAP as DEFAULT_CAP
from okstream.inflate import inflate
from okstream.links.conversation import portions
from okstream.links.wire import Connection

CAP = 1000
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class Stock(Connection):
    """Hands frames over in the same way, but leaves all reading to `websockets`."""

    def data_received(self, data: bytes) -> None:
        ClientConnection.data_received(self, data)


class Wire(asyncio.Transport):
    """The end of a socket that nothing listens to."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False

    def write(self, data) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def outcome(kind: type[Connection], pieces: list[bytes]) -> tuple[object, ...]:
    """Return what a connection of `kind` makes of `pieces`: frames handed over, and how it stands afterwards."""

    async def scenario() -> tuple[object, ...]:
        frames: list[tuple[bytes, bool]] = []
        link = SimpleNamespace(
            wall_ns=lambda: 1,
            cap=CAP,
            hear=lambda heard, binary, recv: frames.extend((data, binary) for data in heard),
            wake=asyncio.Event(),
        )
        protocol = ClientProtocol(parse_uri("ws://127.0.0.1/"), max_size=CAP)
        connection = kind(protocol, listener=link, ping_interval=None, close_timeout=None)  # type: ignore[arg-type]
        connection.connection_made(Wire())
        request = protocol.connect()
        protocol.send_request(request)
        accept = accept_key(request.headers["Sec-WebSocket-Key"]).encode()
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        for piece in (head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n", *pieces):
            connection.data_received(piece)
        error = type(protocol.parser_exc)
        return frames, protocol.state, protocol.close_rcvd, protocol.close_sent, error

    return asyncio.run(scenario())


def framed(first: int, body: bytes, mask: bool, form: int) -> bytes:
    bit = 0x80 if mask else 0
    size = len(body)
    if size < 126 and form == 0:
        head = bytes([first, size | bit])
    elif size < 65_536 and form <= 1:
        head = bytes([first, 126 | bit]) + size.to_bytes(2)
    else:
        head = bytes([first, 127 | bit]) + size.to_bytes(8)
    return head + (b"\0\0\0\0" if mask else b"") + body


plain = st.builds(framed, st.sampled_from([TEXT, BINARY]), st.binary(max_size=200), st.just(False), st.just(0))
large = st.builds(
    lambda first, size, form: framed(first, b"x" * size, False, form),
    st.sampled_from([TEXT, BINARY]), st.sampled_from([125, 126, 127, CAP - 1, CAP, CAP + 1, 70_000]), st.integers(0, 2),
)  # fmt: skip
control = st.builds(
    framed, st.sampled_from([PING, PONG, CLOSE]),
    st.sampled_from([b"", b"ok", b"\x03\xe8bye", b"\x01", b"\x03\xe8\xff"]), st.just(False), st.just(0),
)  # fmt: skip
# Fragments, reserved bits and opcodes, masks, lengths in a longer form than needed.
strange = st.builds(
    framed, st.sampled_from([0x01, 0x02, 0x00, 0x80, 0xC1, 0x83, 0x8B, 0x09, TEXT]), st.binary(max_size=130),
    st.booleans(), st.integers(0, 2),
)  # fmt: skip
streams = st.lists(st.one_of(plain, plain, plain, large, control, strange), max_size=12).map(b"".join)


@settings(max_examples=300)
@given(stream=streams, tail=st.binary(max_size=6), cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_any_stream_of_frames_in_any_pieces_is_read_alike(stream, tail, cuts):
    data = stream + tail
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:stop] for start, stop in pairwise(edges) if stop > start]
    assert outcome(Connection, pieces) == outcome(Stock, pieces)


@given(frames=st.lists(plain, min_size=2, max_size=6), size=st.integers(1, 9))
def test_plain_frames_arrive_however_they_are_cut(frames, size):
    data = b"".join(frames)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    handed, *_ = outcome(Connection, pieces)
    assert len(handed) == len(frames)


@given(st.lists(st.integers(0, 3000), max_size=200), st.booleans())
def test_several_frames_are_taken_together_only_if_they_hold_no_more_text_than_one_may(lengths, binary):
    """Else a read of the shortest frames there are would bring many times what a message may be, all at once."""
    texts = [bytes([at % 256]) * length for at, length in enumerate(lengths)]
    frames = [zlib.compress(text, wbits=-zlib.MAX_WBITS) for text in texts] if binary else texts
    taken = list(portions(frames, binary, 20 * CAP))
    assert [frame for together in taken for frame in together] == frames
    for together in taken:
        held = sum(len(inflate(frame) if binary else frame) for frame in together)
        assert len(together) == 1 or (len(together) <= 64 and held <= 20 * CAP)


def test_frames_of_the_usual_length_are_taken_together():
    assert [len(together) for together in portions([bytes(200)] * 130, True, DEFAULT_CAP)] == [64, 64, 2]
