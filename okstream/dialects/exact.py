"""JSON whose numbers keep their text: `0.10`, `1E-8` and 20 digits arrive as they were sent."""

import json
from typing import Any, NoReturn

import orjson


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse)


def loads(text: bytes) -> Any:
    """
    Parse `text`; every number becomes a str of exactly the digits that were sent.

    Raises:
        ValueError: `text` is not JSON.
        RecursionError: it is nested too deeply.
    """
    orjson.loads(text)  # the stricter of the two: refuses what could not be written again
    return _DECODER.decode(text.decode())
