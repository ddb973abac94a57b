"""Small steps on a disk that either happened or did not."""

import fcntl
import os
import select
import threading
from contextlib import suppress
from errno import EDQUOT, EEXIST, EFBIG, EINVAL, EMFILE, EMLINK, ENOENT, ENOTSUP, EPERM, EXDEV
from pathlib import Path

from okstream.errors import RetryError

_ADVICE = {
    EFBIG: " (this process may write no larger files: ulimit -f, LimitFSIZE)",
    EMFILE: " (this process may open no more files: ulimit -n, LimitNOFILE; or lower open_files)",
    EDQUOT: " (the quota of its user)",
}
_turns: dict[tuple[int, int], threading.Lock] = {}
_NO_LINKS = frozenset({EPERM, ENOTSUP, EMLINK, EXDEV, EINVAL})


def pass_on(descriptor: int, data: bytes) -> None:
    """
    Write all of `data` to a pipe, a terminal or what stdout is; raises OSError.

    Of several threads that write to the same each has its turn: a pipe takes less at once than a batch, and the lines
    of one would stand within those of another.
    """
    place = os.fstat(descriptor)
    with _turns.setdefault((place.st_dev, place.st_ino), threading.Lock()):
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                # Another program made the shared descriptor non-blocking: wait instead of spinning.
                select.select([], [descriptor], [])


def sync_folder(path: Path) -> None:
    """Make what was named or renamed in `path` outlive a power cut, as far as we may."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # to be written, not to be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != EINVAL:  # some file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path, sync: bool = True) -> None:
    """Make the folder `path`, and those it is in; with `sync`, what was made outlives a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent, sync)
    path.mkdir(exist_ok=True)
    if sync:
        sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, in place of what was there, at once: nobody sees half of it."""
    made = path.with_name(f".{path.name}.new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_at(descriptor, data, 0)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            made.unlink()
        raise
    finally:
        os.close(descriptor)
    made.replace(path)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; if that fails, cut off there what was written of it."""
    view = memoryview(data)
    done = offset
    try:
        while view:
            count = os.pwrite(descriptor, view, done)
            view, done = view[count:], done + count
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise


def rename_new(source: Path, target: Path) -> None:
    """
    Call `source` `target`.

    Raises:
        FileExistsError: something is called so; nothing is ever replaced.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(target)) from None
        source.rename(target)
        return
    source.unlink()


def lock(descriptor: int, path: Path) -> None:
    """
    Keep every other okstream from writing `path`, as long as `descriptor` is open.

    Raises:
        RetryError: another one does.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        if holder == os.getpid():
            raise RetryError(f"{path}: another sink of this process writes there") from None
        known = "" if holder is None else f", process {holder}"
        raise RetryError(f"{path}: another okstream writes there{known}") from None


def _holder(descriptor: int) -> int | None:
    """Return which process has locked what `descriptor` is of; None where the system does not tell."""
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        locks = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in locks:  # 3: FLOCK  ADVISORY  WRITE 4711 08:02:1234 0 EOF
        match line.split():
            case [_, "FLOCK", _, "WRITE", process, found, *_] if found == file and process.isdigit() and int(process):
                return int(process)
    return None


def said(error: OSError | RetryError, path: Path) -> str:
    """Return what `error` says of the file at `path`, and what is to be done about it where that is known."""
    if not isinstance(error, OSError):
        return str(error)
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename or path}: {text}{_ADVICE.get(error.errno or 0, '')}"


def first_of(texts: list[str]) -> str:
    """Return the first of `texts`, and how many others there are."""
    texts = list(dict.fromkeys(texts))
    return texts[0] if len(texts) == 1 else f"{texts[0]}, and {len(texts) - 1} more files"


def still_at(descriptor: int, path: Path) -> bool:
    """Whether the file that is open as `descriptor` is the one at `path`: it was neither removed nor replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def missing(path: Path) -> bool:
    """Whether nothing is called so; of what cannot be looked at, nobody knows."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def is_called(descriptor: int, path: Path) -> bool:
    """Whether `path` is the name of what `descriptor` is of."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def same(one: Path, other: Path) -> bool:
    """Whether both names are of one file."""
    try:
        return one.samefile(other)
    except OSError as error:
        if error.errno == ENOENT:
            return False
        raise
