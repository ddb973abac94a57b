"""Several stores behind one okstream process, in real time: all of them, it, and the exchange fail in random order."""

import asyncio
import os
import tempfile
from collections import Counter
from pathlib import Path
from shutil import rmtree

from stores.plan import plan
from stores.runs import Shown, play

from .episodes import Proof


def stores(seed: int) -> Proof:
    """One run; what is left of one that failed stays where its error says."""
    folder = Path(tempfile.mkdtemp(prefix=f"okstream-stores-{seed}-"))
    try:
        shown = play(plan(seed), folder)
    except asyncio.CancelledError:
        rmtree(folder)
        os._exit(1)  # a worker that was told to end; its pool waits for that
    except Exception as error:
        raise AssertionError(f"{error}\nwhat is left of it is in {folder}") from error
    rmtree(folder)
    return Proof(faults=shown.faults, runs=1, stores=_counted(shown))


def _counted(shown: Shown) -> Counter[str]:
    held = shown.stores.values()
    return shown.counts + Counter(
        {
            "stores": len(shown.stores),
            "records stored": sum(one.records for one in held),
            "lines twice": sum(one.again for one in held),
            "trades missing and said": sum(one.missing for one in held),
            "books compared": sum(one.report.checked for one in held),
            "gaps": sum(sum(one.report.gaps.values()) for one in held),
        }
    )
