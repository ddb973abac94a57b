"""`python -m okstream` is the same as `okstream`."""

from .cli import main

main()
