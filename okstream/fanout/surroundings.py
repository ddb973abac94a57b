"""What all pumps of a stream share."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..statements import Statements


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Numbers of gaps, the wall clock, randomness, and a clock of steps."""

    statements: Statements
    wall_ns: Callable[[], int]
    chance: random.Random
    clock: Callable[[], float] = time.perf_counter
