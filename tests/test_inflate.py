"""Bounded raw Deflate: the text of a frame, or InflateError."""

import base64
import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream import inflate as module
from okstream.errors import InflateError, LinkError
from okstream.inflate import CAP, inflate

MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True, params=[False, True], ids=["zlib", "compiled"])
def _of_each_kind(request):
    if request.param and not module._COMPILED:
        pytest.skip("the compiled part was not built: there is no compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COMPILED", request.param)
        yield


VECTORS = {
    "2b c8 cf 4b 07 00": b"pong",
    "ab 56 4a 2d 4b cd 2b 51 b2 52 2a c8 cf 4b 57 aa 05 00": b'{"event":"pong"}',
    "ab 56 4a 2d 4b cd 2b 51 b2 52 ca c9 4f cf cc 53 d2 51 2a 2e 4d 4e 4e 2d 2e 56 b2 2a 29 2a 4d ad 05 00": (
        b'{"event":"login","success":true}'
    ),
    "4dca310a80300c05d0bbfcd941d7ae1e4324a426a22855da0415f1ee2e0e8e0f5e7723ce89f385d05418264e495704b048fba182b031c2"
    "8dacc55743b0ecfacfdb42c5238d6e9ed58b50b48144779b28e96974a82ed4d4789efe05": (
        b'[{"binary":1,"channel":"addChannel","data":{"result":true,'
        b'"channel":"ok_sub_futureusd_btc_depth_next_week_10"}}]'
    ),
    "4dca310ac0200c05d0bbfcd9a5ab6b8f514a8846b05454340e45bc7b970e1d1fbc63c25d99db03bb19f8c83987040b16d93f18082bc34e"
    "b4d04752586d23fc73b9a90f47bd1625a79e461725095523d63a5f": (
        b'[{"binary":1,"channel":"addChannel","data":{"result":true,"channel":"ok_sub_spot_btc_usdt_depth"}}]'
    ),
}


def deflate(text: bytes, level: int = 1) -> bytes:
    encoder = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return encoder.compress(text) + encoder.flush()


def bomb(size: int) -> bytes:
    """Return a raw-Deflate stream of `size` zero bytes: one block, which after a full flush can be repeated."""
    encoder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = encoder.compress(bytes(MIB)) + encoder.flush(zlib.Z_FULL_FLUSH)
    return block * (size // MIB) + encoder.flush()


@pytest.mark.parametrize(("frame", "text"), VECTORS.items(), ids=range(len(VECTORS)))
def test_frames_of_the_exchange_inflate_to_their_text(frame, text):
    assert inflate(bytes.fromhex(frame)) == text


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_every_way_to_deflate_is_read(level):
    text = b'{"table":"spot/ticker"}' * 1000
    assert inflate(deflate(text, level)) == text


def test_an_empty_text_is_a_text():
    assert inflate(deflate(b"")) == b""


FRAME = deflate(b'{"table":"spot/ticker","data":[{"last":"0.3165"}]}' * 20)

BAD = {
    "empty": b"",
    "truncated": FRAME[:-1],
    "half": FRAME[: len(FRAME) // 2],
    "truncated, then padded with zeros": FRAME[: len(FRAME) // 2] + bytes(len(FRAME)),
    "padded with zeros": FRAME + bytes(16),
    "one byte more": FRAME + b"\n",
    "two streams": FRAME + FRAME,
    "zlib header": zlib.compress(b'{"event":"pong"}'),
    "gzip header": gzip.compress(b'{"event":"pong"}'),
    "text": b'{"event":"pong"}',
    "garbage": b"\xff" * 64,
    "zeros": bytes(64),
}


@pytest.mark.parametrize("cap", [CAP, 128], ids=["default cap", "small cap"])
@pytest.mark.parametrize("frame", BAD.values(), ids=BAD)
def test_what_is_not_exactly_one_stream_is_refused(frame, cap):
    with pytest.raises(InflateError):
        inflate(frame, cap)


def test_the_error_finishes_the_connection_and_says_how_long_the_frame_was():
    with pytest.raises(LinkError, match="frame of 3 bytes"):
        inflate(FRAME[:3])


@pytest.mark.parametrize("size", [1, 100, 4096, 70_000])
def test_a_text_of_exactly_the_cap_is_fine_and_one_byte_more_is_not(size):
    for text in (bytes(size), bytes(i * 89 % 256 for i in range(size))):
        assert inflate(deflate(text), cap=size) == text
        with pytest.raises(InflateError, match="more than"):
            inflate(deflate(text + b"x"), cap=size)


def test_a_frame_made_to_inflate_to_gigabytes_costs_no_more_than_the_cap():
    """The text is refused after the cap; until then zlib holds it twice, as pieces and joined."""
    frame = bomb(1024 * MIB)
    cap = 4 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(InflateError, match="more than"):
            inflate(frame, cap)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * cap + 2 * len(frame)


@pytest.mark.parametrize("size", [13 * MIB, 15 * MIB])
def test_a_text_just_below_the_cap_takes_at_most_three_times_the_cap(size):
    frame = bomb(size)
    tracemalloc.start()
    try:
        assert len(inflate(frame)) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * CAP


def test_a_short_frame_that_swells_as_far_as_deflate_can_stays_below_the_cap():
    frame = bomb(8 * MIB)
    assert len(inflate(frame)) == 8 * MIB
    with pytest.raises(InflateError, match="more than"):
        inflate(frame, 8 * MIB - 1)


@given(st.binary(max_size=512), st.sampled_from([16, 256, CAP]))
def test_arbitrary_bytes_are_text_within_the_cap_or_an_inflate_error(frame, cap):
    try:
        text = inflate(frame, cap)
    except InflateError:
        return
    assert len(text) <= cap
    assert zlib.decompress(frame, -zlib.MAX_WBITS) == text


@given(st.binary(max_size=4096), st.integers(0, 9))
def test_what_was_deflated_comes_back(text, level):
    assert inflate(deflate(text, level)) == text


def by_zlib(frame, cap):
    """Return what zlib makes of exactly one stream, None if it is none or longer."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        text = decoder.decompress(frame, cap + 1)
    except zlib.error:
        return None
    return text if decoder.eof and not decoder.unused_data and len(text) <= cap else None


@st.composite
def streams(draw):
    """Return a stream of one of all kinds of blocks, perhaps with a few wrong bits."""
    text = draw(st.binary(max_size=300) | st.text("0123456789.", max_size=400).map(str.encode))
    encoder = zlib.compressobj(
        draw(st.integers(0, 9)), zlib.DEFLATED, -draw(st.integers(9, 15)), draw(st.integers(1, 9)),
        draw(st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED])),
    )  # fmt: skip
    frame = bytearray(
        encoder.compress(text) + encoder.flush(zlib.Z_SYNC_FLUSH) + encoder.compress(text * 3) + encoder.flush()
    )
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(frame)


@given(streams() | st.binary(max_size=64), st.sampled_from([0, 16, 256, 64 * 1024]))
@settings(max_examples=500)
def test_what_is_a_stream_and_what_it_says_is_as_zlib_has_it(frame, cap):
    compiled = pytest.importorskip("okstream._compiled", reason="the compiled part was not built")
    assert compiled.inflate(frame, cap) == by_zlib(frame, cap)


@given(st.binary(max_size=256), st.data())
def test_no_part_of_a_frame_is_a_frame(text, data):
    frame = deflate(text)
    with pytest.raises(InflateError):
        inflate(frame[: data.draw(st.integers(0, len(frame) - 1))])


def test_every_recorded_frame_inflates(recordings):
    count = 0
    for path in sorted(recordings.glob("*-v3/*-public.jsonl")):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["dir"] == "recv" and "b64" in event:
                text = inflate(base64.b64decode(event["b64"]))
                assert text == b"pong" or json.loads(text)
                count += 1
    assert count > 900


def test_of_the_frames_captured_in_v1_days_the_malformed_one_alone_is_refused(recordings):
    captures = json.loads((recordings / "okex-v1" / "captures.json").read_text())
    frames = [bytes.fromhex(item["hex"]) for item in captures if item["kind"] == "raw_frame"]
    assert len(frames) == 3
    *good, malformed = frames
    for frame in good:
        assert json.loads(inflate(frame))[0]["channel"] == "addChannel"
    with pytest.raises(InflateError):
        inflate(malformed)
