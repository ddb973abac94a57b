"""What stands in Python and in the compiled part, to be tested as one."""

import pytest

from okstream import levels

try:
    from okstream import _compiled
except ImportError:  # without a compiler
    _compiled = None  # type: ignore[assignment]

needs_compiled = pytest.mark.skipif(_compiled is None, reason="the compiled part was not built: there is no compiler")

LEVELS = [
    pytest.param(levels.Levels, id="python"),
    pytest.param(_compiled and _compiled.Levels, id="compiled", marks=needs_compiled),
]
