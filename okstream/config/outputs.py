"""The [sink.NAME] tables of a configuration, validated: how a lane is served, and what its sink is made with."""

import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from okstream.durations import seconds
from okstream.errors import ConfigError
from okstream.fanout.filters import Filters
from okstream.options import LANE_BYTES, MIB, LaneOptions, WhenFull
from okstream.sinks import METHODS, SINKS, Sink

from .wording import complaints, either, meant

_NAME = re.compile(r"[\w-]+", re.ASCII)
_KIB = 1024
_SIZES = ("_mib", "_kib")
_Model = TypeVar("_Model", bound=BaseModel)


def _read(value: Any) -> Any:
    try:
        return seconds(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise ValueError(str(error)) from None


_TEXT = BeforeValidator(_read)
Seconds = Annotated[float, _TEXT, Field(gt=0, lt=1e9)]
_Count = Annotated[int, Field(ge=1)]
_Mib = Annotated[int, Field(ge=1, le=1 << 24)]


class LaneTable(BaseModel):
    """What every [sink.NAME] can say beside the options of its sink, see LaneOptions and config.example.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["json", "raw"] = "json"
    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    venues: tuple[str, ...] = ()
    data_only: bool = False
    when_full: WhenFull | None = None
    lane_mib: Annotated[int, Field(ge=1, le=65536)] = LANE_BYTES // MIB
    lane_records: _Count | None = None
    batch_records: _Count | None = None
    batch_kib: _Count | None = None
    linger: Annotated[float, _TEXT, Field(ge=0, lt=3600)] | None = None
    on_start: Literal["fail", "retry", "ignore"] = "fail"
    retries: Annotated[int, Field(ge=0)] | None = None
    retry_first: Seconds = 0.5
    retry_most: Seconds = 30.0
    spool: Path | None = None
    spool_mib: _Mib = 1024
    spool_always: bool = False
    spool_full: Literal["stop", "drop"] = "drop"
    dead_letters: Path | None = None
    dead_letter_mib: _Mib = 64
    threaded: bool | None = None

    def options(self, name: str) -> LaneOptions:
        """
        Return the options of the lane of [sink.`name`].

        Raises:
            ConfigError: some do not go together.
        """
        if (wrong := self._conflict()) is not None:
            raise ConfigError(f"sink.{name}.{wrong}")
        same = {option.name for option in fields(LaneOptions)} & type(self).model_fields.keys() - {"when_full"}
        return LaneOptions(
            **{option: getattr(self, option) for option in same},
            name=name,
            when_full=self.when_full or ("drop_oldest" if self.spool is None else "spill"),
            bytes=self.lane_mib * MIB,
            records=self.lane_records,
            batch_bytes=None if self.batch_kib is None else self.batch_kib * _KIB,
            statements=not self.data_only,
            spool_bytes=self.spool_mib * MIB,
            dead_letter_bytes=self.dead_letter_mib * MIB,
        )

    def _conflict(self) -> str | None:
        said = self.model_fields_set
        if self.when_full == "block":
            return "when_full: only a replay can be made to wait; what is live needs another policy"
        if self.spool is None and (self.when_full == "spill" or said & {"spool_mib", "spool_always", "spool_full"}):
            return "spool is missing: the folder for what does not fit into memory"
        if self.spool is not None and self.when_full not in (None, "spill") and not self.spool_always:
            return f"spool: with when_full = {self.when_full!r} nothing would go there"
        if self.dead_letters is None and "dead_letter_mib" in said:
            return "dead_letters is missing: the file for what can never be written"
        if self.retry_most < self.retry_first:
            return "retry_most: is less than retry_first"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One sink of a configuration: its `type` there, how it is served, and what its class is called with."""

    name: str
    type: str
    options: LaneOptions
    arguments: Mapping[str, Any] = field(repr=False)
    made_by: Callable[..., Sink]

    def sink(self) -> Sink:
        """
        Make the sink.

        Raises:
            ConfigError: its class does not like what it is called with.
        """
        try:
            return self.made_by(**self.arguments)
        except ConfigError as error:
            option = str(error).partition(":")[0]
            colon = "." if option in inspect.signature(self.made_by).parameters else ": "
            raise ConfigError(f"sink.{self.name}{colon}{error}") from None


def read(tables: Mapping[str, Any]) -> list[Output]:
    """
    Return the outputs that `tables` describe, by name; without any, records go to stdout.

    Raises:
        ConfigError: what is wrong, a line each, with its place.
    """
    outputs: list[Output] = []
    wrong: list[str] = []
    for name, table in (tables or {"stdout": {"type": "stdout"}}).items():
        try:
            outputs.append(_output(name, table))
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return outputs


def _output(name: str, table: Any) -> Output:
    where = f"sink.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"sink.{name!r}: a name is made of letters, digits, dashes and underscores")
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: wants a table, [sink.NAME]")
    kind = table.get("type")
    if not isinstance(kind, str):
        raise ConfigError(f"{where}.type is missing: {_kinds()}")
    try:
        found = sink_class(kind)
        own = own_options(found)
    except ConfigError as error:
        raise ConfigError(f"{where}.type: {error}") from None
    of_lane = {key: table[key] for key in table if key in LaneTable.model_fields}
    of_sink = {key: table[key] for key in table if key not in of_lane and key != "type"}
    lane, wrong = _validated(LaneTable, of_lane, where)
    values, more = _validated(own, of_sink, where, [*LaneTable.model_fields, "type"])
    if lane is None or values is None:
        raise ConfigError("\n".join(wrong + more))
    options = lane.options(name)
    try:
        Filters(options)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    arguments = {key: getattr(values, f"own_{key}") for key in of_sink}
    return Output(name=name, type=kind, options=options, arguments=arguments, made_by=found)


def sink_class(kind: str) -> type[Any]:
    """
    Return the class that `kind` names: one of SINKS, or `module:Class`.

    Raises:
        ConfigError: there is none, or it is no sink.
    """
    if kind not in SINKS and ":" not in kind:
        raise ConfigError(f"there is no sink {kind!r}{meant(kind, SINKS) or f'; there are {_kinds()}'}")
    place, _, name = SINKS.get(kind, kind).partition(":")
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        raise ConfigError(_absent(place, error)) from None
    except (ImportError, SyntaxError, TypeError, ValueError) as error:  # the latter two: no name of a module
        raise ConfigError(f"{place!r} cannot be imported: {error}") from None
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(f"module {place!r} has no class {name!r}{meant(name, classes)}")
    if lacking := [method for method in METHODS if not callable(getattr(found, method, None))]:
        raise ConfigError(f"{kind} is no sink: it has no {either(lacking)}")
    if plain := [method for method in METHODS if _is_plain(getattr(found, method))]:
        raise ConfigError(f"{kind}: {either(plain).replace(' or ', ' and ')} must be async")
    return found


def _is_plain(method: Any) -> bool:
    """Whether calling it returns nothing to be awaited, as far as can be seen."""
    inner = inspect.unwrap(method)
    return inspect.isfunction(inner) and not inspect.iscoroutinefunction(inner)


def own_options(sink: type[Any]) -> type[BaseModel]:
    """
    Return the options of a sink's own: what its constructor takes. Those of type float are spans of time, or of MiB or
    KiB where their name says so.

    Raises:
        ConfigError: there is one that a configuration cannot give.
    """
    try:
        hints = get_type_hints(sink.__init__, include_extras=True)
    except NameError as error:
        raise ConfigError(f"a type in the constructor of {sink.__name__} is not known: {error}") from None
    options: dict[str, Any] = {}
    for parameter in inspect.signature(sink).parameters.values():
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(f"the option {name!r} of {sink.__name__} cannot be given by name")
        if name == "type" or name in LaneTable.model_fields:
            raise ConfigError(f"the option {name!r} of {sink.__name__} needs another name: every sink has one like it")
        default = Field(alias=name) if parameter.default is parameter.empty else Field(parameter.default, alias=name)
        hint = hints.get(name, Any)
        # A prefix, for a model has names of its own.
        options[f"own_{name}"] = (hint if name.endswith(_SIZES) else _timed(hint), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model: type[BaseModel] = create_model(sink.__name__, __config__=config, **options)
    return model


def _timed(annotation: Any) -> Any:
    """Let what is a float be written as text with a unit, too."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is float:
        return Annotated[float, _TEXT]
    if origin is Annotated:
        return Annotated[(_timed(parts[0]), *annotation.__metadata__)]
    return reduce(or_, map(_timed, parts)) if origin in (Union, types.UnionType) else annotation


def _validated(
    model: type[_Model], data: Mapping[str, Any], where: str, known: Iterable[str] = ()
) -> tuple[_Model | None, list[str]]:
    """Return `data` as `model`, or what is wrong with it; `known` are options beside its own."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, complaints(error, model, where, known)


def _absent(module: str, error: ModuleNotFoundError) -> str:
    if error.name is not None and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {error.name!r}; is it installed beside okstream, or its folder in PYTHONPATH?"
    return f"{module!r} needs {error.name!r}, which is not installed"


def _kinds() -> str:
    return either([*(f'"{name}"' for name in SINKS), '"module:Class" for a sink of your own'])
