"""
A public test kit: time that passes only when there is nothing else to do, and what every sink has to fulfil.

    def test_a_quiet_minute():
        okstream.testing.run(scenario)          # async def scenario(): await asyncio.sleep(60) takes no time

    class TestMySink(okstream.testing.SinkContract): ...

Together with the simulated exchange (`okstream.simulator`) keep-alives of a minute, idle closes and budgets of an
hour are tested in milliseconds, over real sockets. The contract of sinks is tested in real time, see sinks.py.
"""

from .sinks import SinkContract
from .virtual import START_NS, VirtualLoop, run, wall_ns

__all__ = ["START_NS", "SinkContract", "VirtualLoop", "run", "wall_ns"]
