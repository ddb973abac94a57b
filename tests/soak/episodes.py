"""The runs of the soak, each of which shows one promise over virtual time, or many at once."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from oracle import Report

from okstream import testing

from .running import Run, running
from .schedule import Plan, wanted


@dataclass
class Proof:
    """What one or several runs showed; `stores` is of those with a process of its own, and stores behind it."""

    report: Report = field(default_factory=Report)
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    rotations: int = 0
    kills: int = 0
    runs: int = 0
    stores: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Proof") -> None:
        self.report.add(other.report)
        self.seconds += other.seconds
        self.faults += other.faults
        self.rotations += other.rotations
        self.kills += other.kills
        self.runs += other.runs
        self.stores += other.stores


def random_faults(plan: Plan) -> Proof:
    """All faults in random order and overlap."""

    async def scenario() -> Proof:
        options = {"redundancy": plan.redundancy, "rotate_after": plan.rotate_after, "checksum": plan.checksum}
        async with running(
            plan.dialect, wanted(plan.dialect, plan.instruments), plan.seed,
            orders_per_second=1.0, log_limit=5_000_000, **options,
        ) as run:  # fmt: skip
            began = asyncio.get_running_loop().time()
            for at, text in plan.faults:
                await asyncio.sleep(max(0.0, began + at - asyncio.get_running_loop().time()))
                run.sim.inject(text)
            await asyncio.sleep(began + plan.seconds - asyncio.get_running_loop().time())
            several = plan.redundancy > 1 or plan.rotate_after is not None or _overlap(plan)
            report = run.judge(several)
            assert set(report.reasons) <= plan.reasons, f"gaps of {set(report.reasons) - plan.reasons}"
            assert report.total <= plan.allowed, f"gaps of {report.total:.1f} s together"
            return _proof(run, report)

    return testing.run(scenario)


def rotations(dialect: str, times: int, seed: int = 1, instruments: int = 10) -> Proof:
    """Links are replaced one after the other under load: nothing is lost, nothing comes twice, and nothing is said."""
    age = 12.0

    async def scenario() -> Proof:
        async with running(
            dialect, wanted(dialect, instruments), seed,
            orders_per_second=1.0, log_limit=5_000_000, requests_per_hour=None, rotate_after=age,
        ) as run:  # fmt: skip
            await run.complete(1)
            first = run.sim.counters.connections
            for _ in range(times):
                await asyncio.sleep(age)
            await run.complete(1)
            await asyncio.sleep(1)
            report = run.judge()
            spoken = _beside_books(run, report, run.sim.counters.connections)
            assert not spoken, f"gaps though links were replaced before they broke: {spoken}"
            proof = _proof(run, report)
            proof.rotations = run.sim.counters.connections - first
            assert proof.rotations >= times
            return proof

    return testing.run(scenario)


def kills(dialect: str, times: int, seed: int = 1, instruments: int = 10) -> Proof:
    """One of two links is killed as soon as both carry everything again: no gap. At the end both: one each."""
    rng = random.Random(f"kills/{seed}")

    async def scenario() -> Proof:
        async with running(
            dialect, wanted(dialect, instruments), seed,
            orders_per_second=1.0, log_limit=5_000_000, requests_per_hour=None, redundancy=2,
        ) as run:  # fmt: skip
            for _ in range(times):
                await run.complete(2)
                run.sim.inject(f"drop:connection={rng.choice(run.lives()).id}")
                await asyncio.sleep(0.5)
            await run.complete(2)
            await asyncio.sleep(1)
            report = run.judge()
            spoken = _beside_books(run, report, times)
            assert not spoken, f"gaps though the other link was there: {spoken}"
            run.sim.inject("drop")
            await asyncio.sleep(20)
            after = run.judge()
            # The first of the two to go may pass a book without numbers on to the other, within a gap of its own.
            more = {name: after.gaps[name] - report.gaps[name] for name in _names(run)}
            wrong = {name: count for name, count in more.items() if not 1 <= count <= 1 + (name in _vague(run))}
            assert not wrong, f"not one gap each: {wrong}"
            proof = _proof(run, after)
            proof.kills = times
            return proof

    return testing.run(scenario)


def stalled(instruments: int = 100, seed: int = 1) -> Proof:
    """The book of one instrument stops without a word: it is found and healed, and no other is touched."""
    lame = "SIM007-USDT"

    async def scenario() -> Proof:
        books = f"book:{','.join(f'SIM{i:03d}-USDT' for i in range(instruments))}"
        async with running("okx-v5", [books], seed, log_limit=5_000_000) as run:
            await asyncio.sleep(5)
            run.sim.inject(f"stall:channel=books,inst={lame},seconds=100000")
            await asyncio.sleep(115)
            report = run.judge(several=False)
            assert dict(report.gaps) == {f"book:{lame}": 1}, f"gaps: {dict(report.gaps)}"
            return _proof(run, report)

    return testing.run(scenario)


def _overlap(plan: Plan) -> bool:
    return any(text.partition(":")[0] in ("notice", "half-open", "mute", "freeze") for _, text in plan.faults)


def _names(run: Run) -> list[str]:
    return [str(feed.sub) for feed in run.feeds]


def _vague(run: Run) -> set[str]:
    """The books whose changes have no numbers: two links agree on these only by chance."""
    return {str(feed.sub) for feed in run.feeds if feed.traits.incremental and not feed.traits.sequenced}


def _beside_books(run: Run, report: Report, times: int) -> dict[str, int]:
    """Return the gaps; but not of vague books, of which there may be one each of so many `times`."""
    vague = _vague(run)
    return {name: count for name, count in report.gaps.items() if count > (times if name in vague else 0)}


def _proof(run: Run, report: Report) -> Proof:
    return Proof(report, asyncio.get_running_loop().time(), Counter(run.sim.counters.faults), runs=1)
