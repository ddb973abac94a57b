"""A slice of the soak that is the same each time: many faults at once, and links that come and go under load."""

import pytest
from soak.episodes import kills, random_faults, rotations, stalled
from soak.faults import ALL
from soak.schedule import plan


@pytest.mark.parametrize("redundancy", [1, 2])
@pytest.mark.parametrize("dialect", ALL)
def test_faults_in_random_order_and_overlap(dialect, redundancy):
    """Whatever comes together, all is delivered once or declared, and all is well again in the end."""
    drawn = plan(redundancy, dialect=dialect, redundancy=redundancy, instruments=2, seconds=15, count=6)
    proof = random_faults(drawn)
    assert proof.report.delivered > 500
    assert sum(proof.faults.values()) >= 6


def test_fifty_instruments_with_all_channels():
    """A stream that is subscribed to everything there is survives what happens to many of its links."""
    drawn = plan(3, dialect="okx-v5", redundancy=1, instruments=50, seconds=5, count=4, calm=40)
    assert random_faults(drawn).report.delivered > 10_000


@pytest.mark.parametrize("dialect", ALL)
def test_links_are_rotated_without_a_gap(dialect):
    """Five times each link is replaced by a new one under load: nothing lost, nothing twice, no gap."""
    proof = rotations(dialect, 5, instruments=3)
    assert proof.rotations >= 5


@pytest.mark.parametrize("dialect", ALL)
def test_one_of_two_links_may_be_killed(dialect):
    """Ten times one of two links dies without a gap; when both die at once there is one gap a subscription."""
    assert kills(dialect, 10, instruments=2).kills == 10


def test_one_stalled_instrument_of_a_hundred_is_found():
    """Its book is healed, and no other subscription is touched."""
    assert stalled().report.reasons == {"stale": 1}
