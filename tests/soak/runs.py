"""All runs by name, for this process or another one."""

import logging

from .episodes import Proof, kills, random_faults, rotations, stalled
from .freezing import freezes
from .schedule import plan
from .storing import stores

ROTATIONS = 100
KILLS = 200


def run(name: str, seconds: float) -> Proof:
    """Do the run that is called `name`; `seconds` is how long one in real time may take."""
    logging.disable(logging.CRITICAL)
    kind, _, what = name.partition("/")
    match kind:
        case "random":
            return random_faults(plan(int(what)))
        case "rotations":
            return rotations(what, ROTATIONS)
        case "kills":
            return kills(what, KILLS)
        case "freezes":
            return freezes(int(what), seconds)
        case "stores":
            return stores(int(what))
        case "stalled":
            return stalled(seed=int(what))
    raise SystemExit(f"no run is called {name!r}")
