"""A lane's overflow on disk: order, bounds, and what it makes of damage; the model of it is in test_spool_model.py."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from okstream import ConfigError
from okstream.errors import SpoolError, SpoolFullError
from okstream.spool import Spool, segments
from okstream.spool.segments import OVERHEAD, Corrupt, Cursor, Segment, header, record

ALL = 1 << 30
MIB = 1 << 20


async def drained(spool, most=100):
    """Read and acknowledge what waits."""
    items = []
    while batch := await spool.read(most, ALL):
        items += batch
        await spool.ack(len(batch))
    return items


def numbered(count, begin=0):
    return [b"payload %d" % number for number in range(begin, begin + count)]


def files(folder):
    return sorted(folder.glob("*.spool"))


async def filled(folder, count=50, **options):
    """Append payloads, a segment for each ten or so, and close."""
    spool = Spool(folder, **{"limit": MIB, "segment_bytes": 300, **options})
    await spool.open()
    for payload in numbered(count):
        assert await spool.append([payload]) == 1
    await spool.close()


async def test_what_goes_in_comes_out_in_order_also_over_restarts(tmp_path):
    got = []
    for begin in range(0, 300, 100):
        spool = Spool(tmp_path, limit=MIB, segment_bytes=500)
        opened = await spool.open()
        assert (opened.corrupt, opened.torn) == (0, 0)
        assert await spool.append(numbered(100, begin)) == 100
        batch = await spool.read(60, ALL)
        await spool.ack(60)
        got += batch
        await spool.close()
    spool = Spool(tmp_path, limit=MIB)
    assert (await spool.open()).waiting == 120
    assert got + await drained(spool) == numbered(300)
    assert (len(spool), spool.unread, spool.lost) == (0, 0, 0)
    assert len(files(tmp_path)) == 1
    await spool.close()


async def test_what_was_read_and_not_acknowledged_comes_again_after_a_restart(tmp_path):
    await filled(tmp_path)
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    assert await spool.read(10, ALL) == numbered(10)
    assert (len(spool), spool.unread) == (50, 40)
    await spool.ack(4)
    await spool.close()
    await spool.open()
    assert await spool.read(3, ALL) == numbered(3, 4)
    with pytest.raises(ValueError, match="4 of 3"):
        await spool.ack(4)
    await spool.close()


@pytest.mark.parametrize(("within", "count"), [(0, 1), (1, 1), (10, 2), (27, 3), (28, 4), (ALL, 20)])
async def test_a_read_ends_with_the_payload_that_fills_it(tmp_path, within, count):
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    await spool.append(numbered(20))
    assert await spool.read(20, within) == numbered(count)
    await spool.close()


async def test_a_payload_may_be_empty_or_larger_than_a_segment(tmp_path):
    spool = Spool(tmp_path, limit=16 * MIB, segment_bytes=100)
    await spool.open()
    payloads = [b"", b"x" * (3 * MIB), b"", bytes(range(256)) * 3000]
    assert await spool.append(payloads) == 4
    assert await drained(spool) == payloads
    await spool.close()


async def test_one_process_at_a_time_has_it(tmp_path):
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    with pytest.raises(SpoolError, match=f"in use by process {os.getpid()}; each lane needs one of its own"):
        await Spool(tmp_path, limit=MIB).open()
    with pytest.raises(SpoolError, match="the spool is open"):
        await spool.open()
    await spool.close()
    await spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await spool.append([b""])
    await spool.open()
    await spool.close()


async def test_all_that_blocks_is_done_in_a_thread_of_its_own(tmp_path):
    threads = set()

    def noting(payload):
        threads.add(threading.current_thread())

    spool = Spool(tmp_path, limit=MIB, mark=noting)
    await spool.open()
    await spool.append(numbered(3))
    await spool.close()
    (thread,) = threads
    assert thread.name.startswith("okstream-spool")
    await asyncio.to_thread(thread.join)


# -- bounds


async def test_a_full_spool_takes_what_it_has_room_for_and_goes_on_when_it_has_more(tmp_path):
    spool = Spool(tmp_path, limit=8192)
    await spool.open()
    payloads = [b"%100d" % number for number in range(100)]
    accepted = await spool.append(payloads)
    assert 40 < accepted < 70
    assert (spool.refused, spool.bytes) == (100 - accepted, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert spool.bytes <= 8192
    assert await spool.append(payloads[:1]) == 0
    assert await spool.read(30, ALL) == payloads[:30]
    await spool.ack(30)
    more = await spool.append(payloads[accepted:])
    assert more > 15
    assert await drained(spool) == payloads[30 : accepted + more]
    await spool.close()


async def test_a_spool_that_is_to_stop_says_how_many_it_took(tmp_path):
    spool = Spool(tmp_path, limit=4096, when_full="stop")
    await spool.open()
    with pytest.raises(SpoolFullError, match="all of its 4096 bytes are taken") as caught:
        await spool.append([b"%500d" % number for number in range(20)])
    assert 3 <= caught.value.accepted <= 7
    assert len(await drained(spool)) == caught.value.accepted
    assert await spool.append([b"%2000d" % 1]) == 1
    await drained(spool)
    assert await spool.append([b"%2000d" % 2]) == 1, "what was acknowledged makes room, though its segment was not full"
    await spool.close()


def test_a_spool_has_a_least_size(tmp_path):
    with pytest.raises(ConfigError, match="too small: at least 4096"):
        Spool(tmp_path, limit=4095)


FULL_DISK = """
import asyncio, os, subprocess, sys
from pathlib import Path
from okstream.spool import Spool

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", sys.argv[1]], check=True)
folder = Path(sys.argv[1], "spool")

async def main():
    spool = Spool(folder, limit=1 << 30, segment_bytes=30_000)
    await spool.open()
    sent = [b"%999d" % number for number in range(400)]
    first = sum([await spool.append(sent[begin : begin + 10]) for begin in range(0, 400, 10)][:40])
    assert 200 < first < 256, first
    got = await spool.read(100, 1 << 30)
    await spool.ack(100)
    more = await spool.append(sent[first : first + 50])
    assert more == 50, more
    await spool.close()
    spool = Spool(folder, limit=1 << 30)
    opened = await spool.open()
    assert (opened.waiting, opened.corrupt, opened.torn) == (first + 50 - 100, 0, 0), opened
    got += await spool.read(1000, 1 << 30)
    assert got == sent[:first + 50]
    await spool.ack(first + 50 - 100)
    await spool.close()

asyncio.run(main())
"""


def mountable():
    """Whether a process may have a file system of its own here."""
    try:
        return subprocess.run(["unshare", "-Urm", "true"], capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not mountable(), reason="no namespaces for users on this machine")
def test_a_disk_that_is_full_costs_nothing_that_was_accepted(tmp_path):
    """On a real file system of 256 KiB."""
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK)
    (tmp_path / "disk").mkdir()
    command = ["unshare", "-Urm", sys.executable, str(script), str(tmp_path / "disk")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_what_a_failed_flush_left_behind_is_never_read(tmp_path, monkeypatch, code):
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    assert await spool.append([b"one"]) == 1

    def fails(descriptor):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(segments, "_sync", fails)
        if code == errno.EIO:
            with pytest.raises(SpoolError, match="Input/output error") as caught:
                await spool.append([b"two", b"three"])
            assert caught.value.accepted == 0
            assert not isinstance(caught.value, SpoolFullError)
        else:
            assert await spool.append([b"two", b"three"]) == 0
    (first,) = files(tmp_path)
    with first.open("ab") as file:
        file.write(record(1, b"two"))  # the disk had it after all
    assert await spool.append([b"four"]) == 1
    assert len(files(tmp_path)) == 2
    assert await spool.read(9, ALL) == [b"one", b"four"]
    await spool.close()
    await spool.open()
    assert await drained(spool) == [b"one", b"four"]
    await spool.close()


# -- damage


@pytest.mark.parametrize("cut", range(1, 60))
async def test_a_torn_tail_costs_what_is_torn(tmp_path, cut):
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    await spool.append(numbered(10))
    await spool.close()
    (path,) = files(tmp_path)
    size = path.stat().st_size
    os.truncate(path, size - cut)
    whole = len(record(0, b"payload 0"))
    left = 10 - -(-cut // whole)
    opened = await spool.open()
    assert (opened.waiting, opened.corrupt, opened.torn) == (left, 0, (-cut) % whole)
    assert path.stat().st_size == size - cut - opened.torn
    await spool.append([b"new"])
    assert await drained(spool) == [*numbered(left), b"new"]
    await spool.close()


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 330), bits=st.integers(1, 255))
def test_a_byte_that_is_spoilt_costs_one_record_and_says_so(tmp_path_factory, at, bits):
    async def scenario():
        folder = tmp_path_factory.mktemp("spool")
        spool = Spool(folder, limit=MIB)
        await spool.open()
        await spool.append(numbered(10))
        await spool.close()
        await spool.open()
        await spool.append([b"next"])
        await spool.close()
        content = bytearray(files(folder)[0].read_bytes())
        size = len(record(0, b"payload 0"))
        begin = len(content) - 10 * size
        content[at % len(content)] ^= bits
        files(folder)[0].write_bytes(content)
        await spool.open()
        items = await drained(spool)
        hit = (at % len(content) - begin) // size
        expected = [*numbered(10), b"next"]
        if hit >= 0:
            expected[hit] = Corrupt(1)
        assert items == expected
        assert spool.lost == (1 if hit >= 0 else 0)
        await spool.close()

    asyncio.run(scenario())


async def test_what_is_corrupt_is_reported_between_its_neighbours_and_acknowledged_with_them(tmp_path):
    await filled(tmp_path, 50)
    path = files(tmp_path)[1]
    size = len(record(0, b"payload 10"))
    content = bytearray(path.read_bytes())
    first = int(path.stem)
    for place in (2, 3, 6):
        content[len(content) - size * place - 1] ^= 1
    path.write_bytes(content)
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    items = await spool.read(50, ALL)
    holes = [place for place, item in enumerate(items) if isinstance(item, Corrupt)]
    assert sorted(item.count for item in items if isinstance(item, Corrupt)) == [1, 2]
    assert (len(items), spool.lost) == (49, 3)
    for _ in range(holes[1] + 1):
        await spool.ack(1)
    assert len(spool) == 50 - (holes[1] + 2)
    await spool.close()
    assert (await spool.open()).waiting == 50 - (holes[1] + 2)
    assert await spool.read(50, ALL) == items[holes[1] + 1 :]
    assert first < holes[1]
    await spool.close()


async def test_a_segment_that_has_vanished_is_a_hole_of_exactly_its_records(tmp_path):
    await filled(tmp_path, 60)
    paths = files(tmp_path)
    gone = int(paths[2].stem) - int(paths[1].stem)
    paths[1].unlink()
    first = int(paths[1].stem)
    spool = Spool(tmp_path, limit=MIB)
    assert (await spool.open()).waiting == 60
    assert await drained(spool) == [*numbered(first), Corrupt(gone), *numbered(60 - first - gone, first + gone)]
    await spool.close()


async def test_without_its_position_all_that_is_there_comes_again(tmp_path):
    await filled(tmp_path, 10)
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    await spool.read(5, ALL)
    await spool.ack(5)
    await spool.close()
    (tmp_path / "position").write_bytes(b"\xff" * 1024)
    await spool.open()
    assert await drained(spool) == numbered(10)
    await spool.close()


async def test_a_segment_of_another_version_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_VERSION", 2)
    await filled(tmp_path, 3)
    monkeypatch.undo()
    before = files(tmp_path)[0].read_bytes()
    with pytest.raises(SpoolError, match="of version 2, and this okstream reads version 1"):
        await Spool(tmp_path, limit=MIB).open()
    assert files(tmp_path)[0].read_bytes() == before


@given(junk=st.binary(max_size=600), whole=st.booleans(), bounded=st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_a_segment_holds_reading_it_ends_and_invents_nothing(tmp_path_factory, junk, whole, bounded):
    path = tmp_path_factory.getbasetemp() / "junk.spool"
    data = (header(0, {}) if whole else b"") + junk + record(7, b"seven")
    path.write_bytes(data)
    cursor = Cursor(Segment(path, 0, 9 if bounded else 0, len(data), 0), bounded=bounded)
    items = list(cursor)
    cursor.close()
    assert [item for item in items if isinstance(item, bytes)] in ([b"seven"], [])
    assert sum(1 if isinstance(item, bytes) else item.count for item in items) in ((9,) if bounded else (0, 8))


# -- proofs


async def test_a_spool_proves_the_last_of_each_key_also_when_all_is_acknowledged_and_gone(tmp_path):
    def mark(payload):
        key, _, value = payload.decode().partition("=")
        return (key, value) if key != "nothing" else None

    for turn in range(3):
        spool = Spool(tmp_path, limit=MIB, segment_bytes=64, mark=mark)
        opened = await spool.open()
        assert opened.marks == ({"a": f"{turn - 1}", "b": "0", "c d": "ü"} if turn else {})
        said = [b"a=7", f"a={turn}".encode(), b"nothing=1"]
        for payload in [b"b=0", "c d=ü".encode(), *said] if not turn else said:
            await spool.append([payload])
        await drained(spool)
        assert len(files(tmp_path)) == 1
        await spool.close()


@pytest.mark.parametrize("acked", [0, 1, 4, 5, 9, 10])
async def test_a_spool_knows_the_last_of_each_key_that_was_acknowledged(tmp_path, acked):
    options = {"limit": MIB, "segment_bytes": 64, "mark": lambda payload: (payload[:1].decode(), payload[1:].decode())}
    spool = Spool(tmp_path, **options)
    await spool.open()
    for number in range(10):
        await spool.append([f"{'ab'[number % 2]}{number}".encode()])
    assert len(await spool.read(acked, ALL)) == acked
    await spool.ack(acked)
    await spool.close()
    done = (await (again := Spool(tmp_path, **options)).open()).done
    await again.close()
    assert done == {"ab"[number % 2]: str(number) for number in range(acked)}


async def test_what_is_begun_is_known_unless_something_of_it_was_appended(tmp_path):
    options = {"limit": MIB, "mark": lambda payload: (payload[:1].decode(), payload[1:].decode().rstrip("\n"))}
    spool = Spool(tmp_path, **options)
    await spool.open()
    spool.begin([b"a?\n", b"b?\n"])
    await spool.append([b"a1"])
    await drained(spool)
    spool.begin([b"c?\n"])
    size = (tmp_path / "begun").stat().st_size
    spool.begin([b"a?\n"])
    assert (tmp_path / "begun").stat().st_size == size, "of this there is more"
    await spool.close()
    with (tmp_path / "begun").open("ab") as file:
        file.write(b"\n00000000 d?\n\n1234")
    for _ in range(2):
        spool = Spool(tmp_path, **options)
        assert (await spool.open()).marks == {"a": "1", "b": "?", "c": "?"}
        assert (tmp_path / "begun").read_bytes().count(b"?") == 2
        await spool.close()
    spool = Spool(tmp_path, **options)
    await spool.open()
    spool.begin([b"e?\n"])
    assert await spool.remember([b"b2", b"c3"]) > 0
    await spool.close()
    spool = Spool(tmp_path, **options)
    assert (await spool.open()).marks == {"a": "1", "b": "2", "c": "3", "e": "?"}
    assert (tmp_path / "begun").read_bytes().count(b"?") == 1
    await spool.close()


async def test_a_note_is_kept_as_it_was_written_last_or_not_at_all(tmp_path):
    for turn, note in enumerate([b"", b"one", b"two" * 1000, b""]):
        spool = Spool(tmp_path, limit=MIB)
        assert (await spool.open()).note == ([b"", b"one", b"two" * 1000, b""][turn - 1] if turn else b"")
        before = spool.bytes
        await spool.note(b"something else")
        await spool.note(note)
        assert spool.bytes == before + len(note) - len([b"", b"one", b"two" * 1000][turn - 1] if turn else b"")
        await spool.close()
    spool = Spool(tmp_path, limit=MIB)
    await spool.open()
    await spool.note(b"whole")
    await spool.close()
    data = (tmp_path / "note").read_bytes()
    (tmp_path / "note").write_bytes(data[:-1] + b"#")
    assert (await spool.open()).note == b""
    await spool.close()


# -- a process that is killed


KILLED = """
import asyncio, os, sys
from pathlib import Path
from okstream.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), limit=1 << 26, segment_bytes=20_000)
    await spool.open()
    number = 0
    while True:
        batch = [b"%d:" % n + b"x" * (n % 700) for n in range(number, number + 23)]
        number += await spool.append(batch)
        os.write(1, b"appended %d\\n" % number)
        if number % 2:
            got = await spool.read(17, 1 << 30)
            os.write(1, b"read %d\\n" % int(got[0].split(b":")[0]))
            await spool.ack(len(got))
            os.write(1, b"acked %d\\n" % len(got))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [40, 157, 411])
def test_a_process_that_is_killed_loses_nothing_that_was_accepted(tmp_path, lines):
    """At most the batch that was not acknowledged comes twice."""
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    folder = tmp_path / "spool"
    accepted = acked = 0
    with subprocess.Popen([sys.executable, str(script), str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            word, count = line.split()
            accepted = int(count) if word == b"appended" else accepted
            acked += int(count) if word == b"acked" else 0
            if number == lines:
                process.send_signal(signal.SIGKILL)
    assert acked > 100

    async def scenario():
        spool = Spool(folder, limit=1 << 26)
        opened = await spool.open()
        items = await drained(spool)
        await spool.close()
        return opened, items

    opened, items = asyncio.run(scenario())
    assert opened.corrupt == 0
    numbers = [int(item.split(b":")[0]) for item in items]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert acked <= numbers[0] <= acked + 17, "what was acknowledged last may not have been said"
    assert accepted <= numbers[-1] + 1 <= accepted + 23
    assert all(item == b"%d:" % n + b"x" * (n % 700) for n, item in zip(numbers, items, strict=True))


def test_marks_are_said_in_every_segment(tmp_path):
    """So that deleting a segment needs no room on a disk that has none."""
    asyncio.run(filled(tmp_path, 30, mark=lambda payload: (payload[-1:].decode(), payload.decode())))
    last = files(tmp_path)[-1].read_bytes()
    length = int.from_bytes(last[20:24], "little")
    said = orjson.loads(last[28 : 28 + length])
    assert set(said) == set("0123456789")
    assert len(record(0, b"")) == OVERHEAD


async def test_what_is_remembered_of_many_keys_never_takes_the_room_of_what_comes(tmp_path):
    limit = 64 * 1024
    options = {"limit": limit, "mark": lambda payload: (payload.decode(), payload.decode())}
    spool = Spool(tmp_path, **options)
    await spool.open()
    names = [f"an instrument that is listed for a week, number {number}".encode() for number in range(3000)]
    for begin in range(0, len(names), 20):
        assert await spool.append(names[begin : begin + 20]) == 20
        assert await drained(spool) == names[begin : begin + 20]
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    await spool.close()
    again = Spool(tmp_path, **options)
    marks = (await again.open()).marks
    await again.close()
    known = [name.decode() for name in names if name.decode() in marks]
    assert 0 < len(known) < 1000
    assert known == [name.decode() for name in names[-len(known) :]]
