"""
A whole simulated exchange on one loopback port, to test programs with: WebSocket, REST, and faults on demand.

    async with Simulator("okx-v5") as sim:
        connect(sim.urls["public"])
        sim.inject("gap:channel=books,inst=BTC-USDT")
        sim.log.pushes("books:instId=BTC-USDT")
"""

from okstream.simulator.faults import FAULTS, Fault
from okstream.simulator.log import Counters, Entry, Log
from okstream.simulator.server import DIALECTS, Simulator
from okstream.simulator.settings import TEST_ACCOUNT, Account, Settings

__all__ = [
    "DIALECTS",
    "FAULTS",
    "TEST_ACCOUNT",
    "Account",
    "Counters",
    "Entry",
    "Fault",
    "Log",
    "Settings",
    "Simulator",
]
