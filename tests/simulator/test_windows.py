"""What a client of an incremental book is told is the difference between what it has and the best levels now."""

import random

import pytest

from okstream.simulator.book import Side, Window


@pytest.mark.parametrize("changes", [1, 5, 40, 600])
@pytest.mark.parametrize("seed", range(5))
def test_a_window_moves_to_the_best_levels_of_its_side(changes, seed):
    rng = random.Random(seed)
    side = Side(1)
    for key in range(100, 140):
        side.put(key, (key, 1))
    window = Window(side, 30)
    for _ in range(100):
        had = dict(window.levels)
        for _ in range(rng.randrange(changes + 1)):
            key = rng.randrange(60, 200)
            if key not in side.levels or rng.random() < 0.5:
                side.put(key, (rng.randrange(3), 1))
            elif len(side.keys) > 1 + rng.randrange(60):
                side.drop(key)
        changed = window.move()
        has = side.window(30)
        assert window.levels == has
        assert window.edge == max(has)
        assert changed == {key: has.get(key) for key in had | has if had.get(key) != has.get(key)}
