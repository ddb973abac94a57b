"""What is wrong with a configuration, in the words of those who write it: pydantic's are about Python."""

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr, ValidationError

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "text",
    Path: "a path",
}
_BARE = re.compile(r"[\w-]+", re.ASCII)
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def complaints(error: ValidationError, model: type[BaseModel], root: str = "", known: Iterable[str] = ()) -> list[str]:
    """
    Return what `error` says of data for `model`, a line for each place; never a value, which may be a secret.

    Args:
        root: the place in the file of what was validated.
        known: options that are there beside those of `model`.
    """
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        where, annotation, parent = _followed(model, problem["loc"], root)
        if problem["type"] == "extra_forbidden":
            options = [*_options(parent), *(known if parent is model else ())]
            said = f"{where}: there is no such option{meant(str(problem['loc'][-1]), options)}"
        elif problem["type"] == "missing":
            said = f"{where} is missing"
        else:
            said = f"{where}: {_wrong(problem, annotation)}"
        found.setdefault(where, []).append(said)
        if len(found[where]) > 1:  # one for each type that it could have been
            found[where] = [f"{where}: wants {words(annotation)}"] * 2
    return [said[0] for said in found.values()]


def meant(wrong: str, known: Iterable[str]) -> str:
    """Return what was probably meant, as the end of a sentence; nothing where there is nothing close."""
    close = get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def words(annotation: Any) -> str:
    """Return what a value of this type is called in a configuration."""
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part is not type(None)]
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Annotated:
        timed = parts[0] is float and any(isinstance(part, BeforeValidator) for part in annotation.__metadata__)
        return 'seconds, or text with a unit such as "500ms"' if timed else words(parts[0])
    if origin is Literal:
        return either([f'"{part}"' if isinstance(part, str) else str(part) for part in parts])
    if origin in (Union, types.UnionType):
        return either(list(dict.fromkeys(map(words, parts))))
    if (isinstance(origin, type) and issubclass(origin, Mapping)) or annotation is dict or _is_model(annotation):
        return "a table"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list of {words(parts[0]).replace('a table', 'tables')}" if parts else "a list"
    return "something else"


def either(choices: Sequence[str]) -> str:
    """Return `choices` as a list in a sentence."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _wrong(problem: Any, annotation: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if kind in _BOUNDS:
        bound, name = _BOUNDS[kind]
        return f"wants {bound} {context[name]:g}"
    if kind == "too_short":
        return "is empty"
    return f"wants {words(annotation)}"


def _followed(model: Any, loc: Iterable[int | str], root: str) -> tuple[str, Any, Any]:
    """Return the place that `loc` names in the file, what is wanted there, and what that is part of."""
    where, annotation, parent = root, model, model
    for part in loc:
        inner = _inner(annotation, part)
        if inner is None:
            continue  # not of the file: it names one of several types
        if isinstance(part, int):
            where += f"[{part}]"
        else:
            name = part if _BARE.fullmatch(part) else repr(part)
            where += f".{name}" if where else name
        parent, annotation = _bare(annotation), inner
    return where, annotation, parent


def _inner(annotation: Any, part: int | str) -> Any:
    """Return what is wanted of `part` of something of this type, None where that has no such part."""
    annotation = _bare(annotation)
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if part in (name, field.alias):
                return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        return Any
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        found = (inner for inner in (_inner(one, part) for one in parts) if inner is not None)
        return next(found, None)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return parts[1]
    if isinstance(origin, type) and issubclass(origin, Iterable) and isinstance(part, int):
        return parts[0]
    return None


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _options(parent: Any) -> list[str]:
    return [field.alias or name for name, field in parent.model_fields.items()] if _is_model(parent) else []
