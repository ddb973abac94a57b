"""The spool against a list: whatever happens to process and disk, what it accepted comes out, once, in order."""

import asyncio
import resource
import shutil
import struct
import tempfile
from collections import deque
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from okstream.spool import Spool
from okstream.spool.segments import OVERHEAD, Corrupt, record

HEADER = 28
SHARED = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where flushes cost nothing
WITHIN = 1 << 20


def mark(payload: bytes) -> tuple[str, str] | None:
    key, number, _ = payload.decode().split(":", 2)
    return (key, number) if key != "-" else None


def newest(folder: Path) -> Path | None:
    return max(folder.glob("*.spool"), default=None)


def layout(path: Path) -> list[tuple[int, int, int]]:
    """Where the records of a file that is whole stand: number, begin, end."""
    data = path.read_bytes()
    offset = HEADER + struct.unpack_from("<I", data, 20)[0]
    found = []
    while offset < len(data):
        length, number = struct.unpack_from("<IQ", data, offset + 4)
        found.append((number, offset, offset + OVERHEAD + length))
        offset = found[-1][2]
    return found


class SpoolModel(RuleBasedStateMachine):
    """`log` is every record by its number; those in `bad` were spoilt on the disk."""

    @initialize(limit=st.sampled_from([4096, 9000, 40_000]), segment=st.sampled_from([200, 1500, 100_000]))
    def begin(self, limit: int, segment: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spool-", dir=SHARED))
        self.limit, self.segment = limit, segment
        self.runner = asyncio.Runner()
        self.log: list[bytes] = []
        self.bad: set[int] = set()
        self.flipped: set[tuple[str, int]] = set()
        self.layouts: dict[str, list[tuple[int, int, int]]] = {}
        self.acked = self.read = self.number = 0
        self.handed: deque[int] = deque()
        self.positions: list[tuple[int, bytes]] = []
        self.oldest: str | None = None
        self.spool = self.opened()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.spool.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def opened(self) -> Spool:
        spool = Spool(self.folder, limit=self.limit, segment_bytes=self.segment, mark=mark)
        said = self.runner.run(spool.open())
        assert said.waiting == len(spool) == len(self.log) - self.acked
        for key in {found[0] for found in map(mark, self.log) if found}:
            numbers = [(n, found[1]) for n, found in enumerate(map(mark, self.log)) if found and found[0] == key]
            good = [n for n, _ in numbers if n not in self.bad]
            allowed = [text for n, text in numbers if not good or n >= good[-1]]
            assert said.marks.get(key) in (allowed if good else [*allowed, None])
            done = [(n, text) for n, text in numbers if n < self.acked]
            last_good = max((n for n, _ in done if n not in self.bad), default=0)
            allowed = [text for n, text in done if n >= last_good]
            spoilt = self.bad or self.flipped
            assert said.done.get(key) in ([*allowed, None] if spoilt else allowed or [None])
        return spool

    def payloads(self, sizes: list[int], keys: str) -> list[bytes]:
        made = []
        for size in sizes:
            self.number += 1
            made.append(f"{keys[self.number % len(keys)]}:{self.number}:".encode() + b"x" * size)
        return made

    def room(self) -> int:
        return self.limit - self.spool.bytes

    def written(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in self.folder.iterdir()}

    sizes = st.lists(st.integers(0, 600), min_size=1, max_size=12)

    @rule(sizes=sizes, keys=st.sampled_from(["a", "ab", "a-", "abc-"]))
    def append(self, sizes: list[int], keys: str) -> None:
        made = self.payloads(sizes, keys)
        accepted = self.runner.run(self.spool.append(made))
        self.log += made[:accepted]
        if accepted < len(made):
            begin = HEADER + 200  # what another segment takes, with its marks
            assert self.room() < OVERHEAD + len(made[accepted]) + begin

    @rule(sizes=sizes, free=st.integers(0, 3000))
    def append_to_a_full_disk(self, sizes: list[int], free: int) -> None:
        """No file may grow beyond so many bytes; which is what a full disk looks like, but for the number."""
        made = self.payloads(sizes, "ab")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        present = newest(self.folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free + (present.stat().st_size if present else 0), hard))
        try:
            accepted = self.runner.run(self.spool.append(made))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.log += made[:accepted]

    @rule(most=st.integers(1, 30), within=st.sampled_from([1, 500, WITHIN]))
    def take(self, most: int, within: int) -> None:
        items = self.runner.run(self.spool.read(most, within))
        taken = 0
        for item in items:
            assert taken < within
            if isinstance(item, Corrupt):
                assert set(range(self.read, self.read + item.count)) <= self.bad
                self.read += item.count
                self.handed.append(item.count)
            else:
                assert self.read not in self.bad
                assert item == self.log[self.read]
                self.read += 1
                self.handed.append(1)
                taken += len(item)
        assert items or self.read == len(self.log)
        assert len(items) == most or taken >= within or self.read == len(self.log)

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.handed)))
        self.positions.append((self.acked, (self.folder / "position").read_bytes()))
        self.runner.run(self.spool.ack(count))
        self.acked += sum(self.handed.popleft() for _ in range(count))

    @precondition(lambda self: not self.handed and self.read < len(self.log))
    @rule(data=st.data())
    def leave_out(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.log) - self.read))
        self.positions.append((self.acked, (self.folder / "position").read_bytes()))
        self.runner.run(self.spool.skip(count))
        self.read += count
        self.acked = self.read

    @rule()
    def close_and_open(self) -> None:
        self.runner.run(self.spool.close())
        self.restarted()

    @rule(sizes=st.lists(st.integers(0, 600), max_size=4), part=st.floats(0, 1))
    def killed_while_appending(self, sizes: list[int], part: float) -> None:
        """What was under way is there up to some byte; those of it that are whole are right, too."""
        image = self.killed()
        last = newest(image)
        if last is not None and not self.positions_ahead(last):
            made = self.payloads(sizes, "ab")
            records = [record(len(self.log) + n, payload) for n, payload in enumerate(made)]
            data = b"".join(records)[: min(self.room(), int(part * sum(map(len, records))))]
            where, end = self.layout(last), last.stat().st_size
            with last.open("ab") as file:
                file.write(data)
            for whole, payload in zip(records, made, strict=True):
                if end + len(whole) > last.stat().st_size:
                    break
                where.append((len(self.log), end, end + len(whole)))
                end += len(whole)
                self.log.append(payload)
        self.restarted()

    @precondition(lambda self: self.positions)
    @rule(data=st.data())
    def power_cut(self, data: st.DataObject) -> None:
        """The position is an older one that was not synced yet: what was acknowledged since then comes again."""
        acked, position = data.draw(st.sampled_from(self.positions))
        image = self.killed()
        (image / "position").write_bytes(position)
        self.acked = acked
        self.restarted()

    @rule(data=st.data(), bits=st.integers(1, 255))
    def a_byte_is_spoilt(self, data: st.DataObject, bits: int) -> None:
        self.killed()
        paths = sorted(self.folder.glob("*.spool"))
        places = [(path, *one) for path in paths for one in self.layout(path)]
        if places:
            path, number, begin, end = data.draw(st.sampled_from(places))
            at = data.draw(st.integers(begin, end - 1))
            if (path.name, at) not in self.flipped and end <= path.stat().st_size:
                self.flipped.add((path.name, at))
                self.bad.add(number)
                content = bytearray(path.read_bytes())
                content[at] ^= bits
                path.write_bytes(content)
        self.cut_off()
        self.restarted()

    @rule(lost=st.integers(1, 900))
    def the_tail_is_torn(self, lost: int) -> None:
        self.killed()
        last = newest(self.folder)
        if last is not None:
            where = self.layout(last)
            begin = where[0][1] if where else last.stat().st_size
            size = max(begin, last.stat().st_size - lost)
            with last.open("r+b") as file:
                file.truncate(size)
            self.bad |= {number for number, _, end in where if end > size}
        self.cut_off()
        self.restarted()

    @invariant()
    def within_bounds(self) -> None:
        if not hasattr(self, "spool"):
            return
        sizes = self.written()
        oldest = min((path.name for path in self.folder.glob("*.spool")), default=None)
        if oldest != self.oldest:
            self.positions.clear()  # it is synced before anything is deleted
            self.oldest = oldest
        assert sum(sizes.values()) == self.spool.bytes <= self.limit
        assert len(self.spool) == len(self.log) - self.acked
        assert self.spool.unread == len(self.log) - self.read

    def killed(self) -> Path:
        """Go on with a copy of the files as they are; the process that had them is gone."""
        image = Path(tempfile.mkdtemp(prefix="spool-", dir=SHARED))
        shutil.copytree(self.folder, image, dirs_exist_ok=True)
        self.runner.run(self.spool.close())
        shutil.rmtree(self.folder)
        self.folder = image
        return image

    def layout(self, path: Path) -> list[tuple[int, int, int]]:
        """Where its records stand; of a file that was spoilt, where they stood before."""
        if not any(name == path.name for name, _ in self.flipped):
            self.layouts[path.name] = layout(path)
        return self.layouts[path.name]

    def positions_ahead(self, last: Path) -> bool:
        """Whether the file's records end before the next number: then nothing was being written to it."""
        end = max((number + 1 for number, _, _ in self.layout(last)), default=int(last.stem))
        return end != len(self.log)

    def cut_off(self) -> None:
        """What is bad at the end of the last segment cannot be told from what was being written."""
        last = newest(self.folder)
        while last is not None and len(self.log) > max(self.acked, int(last.stem)) and len(self.log) - 1 in self.bad:
            self.bad.discard(len(self.log) - 1)
            self.log.pop()

    def restarted(self) -> None:
        self.read = self.acked
        self.handed.clear()
        self.positions.clear()
        self.spool = self.opened()
        sizes = {path.name: path.stat().st_size for path in self.folder.glob("*.spool")}
        for name, where in self.layouts.items():
            self.layouts[name] = [one for one in where if one[2] <= sizes.get(name, 0)]
        self.flipped = {(name, at) for name, at in self.flipped if any(b <= at < e for _, b, e in self.layouts[name])}


SpoolModel.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSpoolModel = SpoolModel.TestCase
