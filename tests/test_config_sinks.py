"""The [sink.NAME] tables: what they can say, and what they are told when they say something wrong."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream import config
from okstream.config.outputs import LaneTable, read
from okstream.errors import ConfigError
from okstream.options import MIB, LaneOptions
from okstream.verbs.plan import described

MINIMAL = '[[source]]\nvenue = "okx"\nsubscriptions = ["ticker:BTC-USDT"]\n'

OWN = """
from pathlib import Path
from typing import Literal
from pydantic import SecretStr
from okstream.errors import ConfigError


class Own:
    def __init__(
        self, *, host: str, port: int = 1, wait: float | None = None, folder: Path = Path("."),
        names: list[str] | str = (), mode: Literal["a", "b"] = "a", schema: str = "s", **others,
    ) -> None:
        if port == 13:
            raise ConfigError("port 13 brings bad luck")
        self.said = (host, port, wait, folder, names, mode, schema)

    async def open(self) -> None: ...
    async def write(self, batch) -> None: ...
    async def close(self) -> None: ...


class Discreet(Own):
    def __init__(self, *, password: SecretStr) -> None:
        self.password = password


class Deaf:
    async def open(self) -> None: ...


class Vague(Own):
    def __init__(self, host, **others): ...


class Positional(Own):
    def __init__(self, host, /): ...


class Greedy(Own):
    def __init__(self, *, linger: float = 0): ...


class Puzzling(Own):
    def __init__(self, *, host: "Nowhere"): ...


value = 1
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Modules of somebody else's, where Python finds them; their names are nobody else's."""
    (tmp_path / "mysinks.py").write_text(OWN)
    (tmp_path / "mybroken.py").write_text("import nowhere_to_be_found")
    (tmp_path / "mytypo.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("mysinks", "mybroken", "mytypo"):
        sys.modules.pop(name, None)


def load(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL + text)
    return config.load(str(path))


def test_without_a_sink_records_go_to_stdout(tmp_path):
    [output] = load(tmp_path, "").outputs()
    assert (output.name, output.type, output.options) == ("stdout", "stdout", LaneOptions(name="stdout"))


def test_every_option_of_a_lane_can_be_said(tmp_path):
    text = """
[sink.all]
type = "stdout"
form = "raw"
types = ["trade"]
channels = ["trades", "book*"]
instruments = ["BTC-*"]
venues = ["okx"]
data_only = true
when_full = "spill"
lane_mib = 3
lane_records = 4
batch_records = 5
batch_kib = 6
linger = "7ms"
on_start = "retry"
retries = 8
retry_first = "90ms"
retry_most = "1m"
spool = "spool"
spool_mib = 11
spool_always = true
spool_full = "stop"
dead_letters = "dead.jsonl"
dead_letter_mib = 12
threaded = true
"""
    [output] = load(tmp_path, text).outputs()
    assert output.options == LaneOptions(
        name="all", form="raw", types=("trade",), channels=("trades", "book*"), instruments=("BTC-*",),
        venues=("okx",), statements=False, when_full="spill", bytes=3 * MIB, records=4, batch_records=5,
        batch_bytes=6 * 1024, linger=0.007, on_start="retry", retries=8, retry_first=0.09, retry_most=60.0,
        spool=Path("spool"), spool_bytes=11 * MIB, spool_always=True, spool_full="stop",
        dead_letters=Path("dead.jsonl"), dead_letter_bytes=12 * MIB, threaded=True,
    )  # fmt: skip
    default, said = LaneOptions(), output.options
    assert [field.name for field in fields(default) if getattr(default, field.name) == getattr(said, field.name)] == []


def test_defaults_are_those_of_a_lane(tmp_path):
    [output] = load(tmp_path, '[sink.a]\ntype = "stdout"').outputs()
    assert output.options == LaneOptions(name="a")


def test_a_spool_is_for_what_does_not_fit_unless_told_otherwise(tmp_path):
    [output] = load(tmp_path, '[sink.a]\ntype = "stdout"\nspool = "x"').outputs()
    assert output.options.when_full == "spill"


@pytest.mark.usefixtures("package")
def test_a_sink_of_ones_own_gets_its_options_as_its_constructor_says(tmp_path):
    text = '[sink.b]\ntype = "mysinks:Own"\nhost = "h"\nwait = "2m"\nfolder = "f"\nnames = ["x"]\nschema = "t"'
    [output] = load(tmp_path, text).outputs()
    assert output.sink().said == ("h", 1, 120.0, Path("f"), ["x"], "a", "t")


@pytest.mark.usefixtures("package")
def test_values_for_a_sink_do_not_show(tmp_path):
    [output] = load(tmp_path, '[sink.b]\ntype = "mysinks:Own"\nhost = "marker-of-a-secret"').outputs()
    assert "marker-of-a-secret" not in repr(output)


@pytest.mark.usefixtures("package")
def test_a_secret_option_of_a_sink_is_masked(tmp_path):
    text = '[sink.b]\ntype = "mysinks:Discreet"\npassword = "marker-of-a-secret"'
    [output] = load(tmp_path, text).outputs()
    sink = output.sink()
    assert "marker" not in repr(vars(sink)) + described(output, sink)
    assert sink.password.get_secret_value() == "marker-of-a-secret"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("value", ['["marker-of-a-secret"]', '{ marker = "marker-of-a-secret" }'])
@pytest.mark.parametrize("kind", ["Discreet", "Own"])
def test_a_value_that_is_wrong_is_not_shown(tmp_path, value, kind):
    option = "password" if kind == "Discreet" else "host"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[sink.b]\ntype = "mysinks:{kind}"\n{option} = {value}').outputs()
    assert f"sink.b.{option}" in str(caught.value)
    assert "marker" not in str(caught.value)


OUT = '[sink.out]\ntype = "stdout"\n'
MINE = '[sink.b]\ntype = "mysinks:Own"\nhost = "h"\n'


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[output]\n", "[output]: write [sink.NAME] tables"),
        ("[sink]\nx = 1", "sink.x: wants a table"),
        ('[sink."a b"]\ntype = "stdout"', "sink.'a b': a name is made of letters"),
        ("[sink.a]", 'sink.a.type is missing: "stdout", "file", "nats" or "module:Class" for a sink of your own'),
        ('[sink.a]\ntype = "stdot"', "sink.a.type: there is no sink 'stdot'; did you mean 'stdout'?"),
        ('[sink.a]\ntype = "kafka"', "sink.a.type: there is no sink 'kafka'; there are \"stdout\", "),
        (OUT + "lane_mb = 1", "sink.out.lane_mb: there is no such option; did you mean 'lane_mib'?"),
        (OUT + 'typ = "stdout"', "sink.out.typ: there is no such option; did you mean 'type'?"),
        (OUT + "lane_mib = 0", "sink.out.lane_mib: wants at least 1"),
        (OUT + 'lane_mib = "x"', "sink.out.lane_mib: wants a whole number"),
        (OUT + 'linger = "soon"', "sink.out.linger: 'soon' is no duration above 0; write 100ms, 0.5s, 2m, 1h30m or 5d"),
        (OUT + "linger = []", 'sink.out.linger: wants seconds, or text with a unit such as "500ms"'),
        (OUT + 'channels = "book"', "sink.out.channels: wants a list of text"),
        (OUT + "channels = [1]", "sink.out.channels[0]: wants text"),
        (OUT + 'form = "yaml"', 'sink.out.form: wants "json" or "raw"'),
        (OUT + 'when_full = "spill"', "sink.out.spool is missing"),
        (OUT + "spool_mib = 3", "sink.out.spool is missing"),
        (OUT + 'when_full = "block"', "sink.out.when_full: only a replay can be made to wait"),
        (OUT + 'when_full = "latest"\nspool = "s"', "sink.out.spool: with when_full = 'latest' nothing would go there"),
        (OUT + "dead_letter_mib = 1", "sink.out.dead_letters is missing"),
        (OUT + "retry_first = 9\nretry_most = 3", "sink.out.retry_most: is less than retry_first"),
        ('[sink.b]\ntype = "nowhere:Sink"', "sink.b.type: there is no module 'nowhere'; is it installed beside"),
        ('[sink.b]\ntype = "mysinks.deep:Sink"', "sink.b.type: there is no module 'mysinks.deep'"),
        ('[sink.b]\ntype = ":Sink"', "sink.b.type: '' cannot be imported"),
        ('[sink.b]\ntype = "mybroken:Sink"', "'mybroken' needs 'nowhere_to_be_found', which is not installed"),
        ('[sink.b]\ntype = "mytypo:Sink"', "'mytypo' cannot be imported: "),
        ('[sink.b]\ntype = "mysinks:Owm"', "module 'mysinks' has no class 'Owm'; did you mean 'Own'?"),
        ('[sink.b]\ntype = "mysinks:value"', "module 'mysinks' has no class 'value'"),
        ('[sink.b]\ntype = "mysinks:Deaf"', "sink.b.type: mysinks:Deaf is no sink: it has no write or close"),
        ('[sink.b]\ntype = "mysinks:Positional"', "the option 'host' of Positional cannot be given by name"),
        ('[sink.b]\ntype = "mysinks:Greedy"', "the option 'linger' of Greedy needs another name"),
        ('[sink.b]\ntype = "mysinks:Puzzling"', "a type in the constructor of Puzzling is not known"),
        ('[sink.b]\ntype = "mysinks:Own"', "sink.b.host is missing"),
        ('[sink.b]\ntype = "mysinks:Own"\nhost = 1', "sink.b.host: wants text"),
        (MINE + 'port = "x"', "sink.b.port: wants a whole number"),
        (MINE + 'wait = "never"', "sink.b.wait: 'never' is no duration above 0"),
        (MINE + "names = 3", "sink.b.names: wants a list of text or text"),
        (MINE + 'mode = "c"', 'sink.b.mode: wants "a" or "b"'),
        (MINE + "hots = 1", "sink.b.hots: there is no such option; did you mean 'host'?"),
        (MINE + "own_host = 1", "sink.b.own_host: there is no such option"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, complaint):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert complaint in str(raised.value)
    assert all(line.startswith(f"{tmp_path / 'config.toml'}: ") for line in str(raised.value).splitlines())


def test_one_sink_without_a_name_is_no_table_of_sinks(tmp_path):
    (tmp_path / "config.toml").write_text(f"sink = 1\n{MINIMAL}")
    with pytest.raises(ConfigError, match=r"config\.toml: sink: wants a table$"):
        config.load(str(tmp_path / "config.toml"))


@pytest.mark.usefixtures("package")
def test_what_a_sink_says_against_its_options_is_named_with_its_place(tmp_path):
    [output] = load(tmp_path, MINE + "port = 13").outputs()
    with pytest.raises(ConfigError, match=r"sink\.b: port 13 brings bad luck"):
        output.sink()


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, OUT + 'lane_mib = 0\nform = "x"\nwrong = 1\n[sink.b]\ntype = "x"')
    assert len(str(raised.value).splitlines()) == 4


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([*LaneTable.model_fields, "type", "typo"]) | st.text()


def errors(tables):
    """Return what is said against `tables`, a line each; nothing where they can be meant."""
    try:
        assert [output.name for output in read(tables)] == list(tables or {"stdout": {}})
    except ConfigError as error:
        return str(error).splitlines()
    return []


@given(st.dictionaries(st.text(), st.dictionaries(KEYS, NONSENSE) | NONSENSE, max_size=3))
def test_whatever_a_table_says_is_read_or_refused(tables):
    assert all(line.startswith("sink.") for line in errors(tables))


@given(st.dictionaries(KEYS, NONSENSE))
def test_whatever_stands_beside_a_type_is_an_option_or_refused(table):
    said = errors({"out": {**table, "type": "stdout"}})
    assert all(line.startswith("sink.out.") for line in said)
    assert bool(said) or table.keys() <= {*LaneTable.model_fields, "type"}
