"""Faults in random order and overlap, for as long as one likes: `make soak SECONDS=600`."""
