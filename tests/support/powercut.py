"""What a disk still has after a power cut: what was synced, and of the rest nothing, or names without their content."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from okstream.spool import segments


class Disk:
    """
    Notes what is synced below `folder`: the content of a file at its fsync, the names in a folder at its.

    What was there before counts as synced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: list[int] = []  # so that no number of a file is given to another one
        for path in [folder, *folder.rglob("*")]:
            self._note(path)

    def synced(self, descriptor: int) -> None:
        self._note(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def cut(self, *, names: bool) -> None:
        """
        Put what is left of the folder in its place; who had files of it open has those still.

        Args:
            names: all names are there, too, with zeros for what was not synced of a file.
        """
        image = self.folder.with_name(f"{self.folder.name}.left")
        self._restore(self.folder, self.folder.stat().st_ino, image, names)
        shutil.rmtree(self.folder)
        image.rename(self.folder)

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def _note(self, path: Path) -> None:
        if not path.is_relative_to(self.folder) or not path.exists():
            return
        number = path.stat().st_ino
        if number not in self._files and number not in self._names:
            self._held.append(os.open(path, os.O_RDONLY))
        if path.is_dir():
            self._names[number] = {one.name: one.stat().st_ino for one in path.iterdir()}
        else:
            self._files[number] = path.read_bytes()

    def _restore(self, origin: Path, number: int, target: Path, names: bool) -> None:
        target.mkdir()
        present = {one.name: one.stat().st_ino for one in origin.iterdir()} if origin.is_dir() else {}
        for name, inner in (present if names else self._names.get(number, {})).items():
            path = origin / name
            if inner in self._names or path.is_dir():
                self._restore(path, inner, target / name, names)
            else:
                data = self._files.get(inner, b"")
                zeros = bytes(max(0, path.stat().st_size - len(data))) if names else b""
                (target / name).write_bytes(data + zeros)


@contextmanager
def watched(folder: Path) -> Iterator[Disk]:
    """All that this process syncs below `folder`."""
    disk = Disk(folder)
    fsync, fdatasync = os.fsync, segments._sync

    def full(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)

    def data(descriptor: int) -> None:
        fdatasync(descriptor)
        disk.synced(descriptor)

    try:
        with mock.patch.object(os, "fsync", full), mock.patch.object(segments, "_sync", data):
            yield disk
    finally:
        disk.close()
