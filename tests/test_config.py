"""The configuration file: what it can say, and what it is told when it says something wrong."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from okstream import config
from okstream.config import outputs
from okstream.durations import seconds
from okstream.errors import ConfigError
from okstream.sinks import SINKS

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"

MINIMAL = '[[source]]\nvenue = "okx"\nsubscriptions = ["ticker:BTC-USDT"]\n'


def load(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(str(path))


def test_the_example_is_valid_as_it_stands():
    settings = config.load(str(EXAMPLE))
    assert settings.source[0].venue == "sim"


def test_the_example_is_valid_with_every_default_written_out(tmp_path, monkeypatch):
    text = re.sub(r"^# (?=\[|\w+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace('venue = "sim"', 'venue = "okx"').replace("redundancy = 1", "redundancy = 2")
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "sinks.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    settings = load(tmp_path, text)
    assert settings.source[0].name == "okx-2"
    assert settings.account["main"].file == "/etc/okstream/main.toml"
    assert (settings.rotate_after, settings.stats, settings.every) == (43200, 60, 0.1)
    assert {output.type for output in settings.outputs()} == {*SINKS, "mypackage.sinks:Mine"}


MINE = """
class Mine:
    async def open(self): ...
    async def write(self, batch): ...
    async def close(self): ...
"""


def shown_in(text, name):
    """Return what the example says of an option: its default, or something in place of none."""
    shown = re.search(rf"^(?:# )?{name} = (.+)$", text, re.MULTILINE)
    assert shown, f"{name} is missing"
    return shown[1]


def assert_default(text, name, default):
    shown = tomllib.loads(f"value = {shown_in(text, name)}")["value"]
    if isinstance(default, bool | int | float | str) or default:
        assert shown in (default, [default]) or tuple(shown) == default, name


def test_the_example_shows_every_option_with_its_default():
    text = EXAMPLE.read_text()
    for section in (config.Settings, config.Source, config.Account, outputs.LaneTable):
        for name, option in section.model_fields.items():
            if name not in {"source", "sink", "account"}:
                assert_default(text, name, None if option.is_required() else option.default)


@pytest.mark.parametrize("kind", SINKS)
def test_the_example_has_a_table_of_every_sink_with_all_its_options_and_no_other(kind):
    [table] = [
        part for part in re.split(r"^(?=(?:# )?\[)", EXAMPLE.read_text(), flags=re.M) if f'type = "{kind}"' in part
    ]
    options = inspect.signature(outputs.sink_class(kind)).parameters
    for name, option in options.items():
        assert_default(table, name, None if option.default is option.empty else option.default)
    shown = set(re.findall(r"^(?:# )?(\w+) = ", table, re.MULTILINE))
    assert shown <= {"type", *options, *outputs.LaneTable.model_fields}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "source"),
        (MINIMAL + 'acount = "x"', "source[0].acount: there is no such option; did you mean 'account'?"),
        ("inflate_mb = 3\n" + MINIMAL, "inflate_mb: there is no such option; did you mean 'inflate_mib'?"),
        ("inflate_mib = 0\n" + MINIMAL, "inflate_mib: wants at least 1"),
        (MINIMAL.replace("okx", "okk"), "source[0]: there is no venue 'okk'. Did you mean 'okx'?"),
        (
            MINIMAL.replace("ticker:BTC-USDT", "ticker:"),
            "source[0]: ticker: an item is empty; write ticker:BTC-USDT,ETH-USDT",
        ),
        (MINIMAL + 'account = "main"', "source[0].account: there is no [account.main]"),
        (MINIMAL + '[output]\ntype = "file"', "[output]: write [sink.NAME] tables, each with a type"),
        ("lane_mib = 3\n" + MINIMAL, "lane_mib: every [sink.NAME] has one of its own now"),
        ("source = 3", "source: wants a list of tables"),
        (MINIMAL.replace("[[source]]", "[source]"), "config.toml: [source]: write [[source]]"),
        (MINIMAL + "subscriptions = 3", "config.toml: Cannot overwrite a value"),
        ('redundancy = "two"\n' + MINIMAL, "config.toml: redundancy: wants a whole number"),
        ('log_level = "loud"\n' + MINIMAL, 'log_level: wants "error", "warning", "info" or "debug"'),
        ("proxy = 3\n" + MINIMAL, "proxy: wants text"),
        ("[[source]]\nsubscriptions = []", "source[0].venue is missing"),
        ("[[source]]\nvenue = 'okx'\nsubscriptions = []", "source[0].subscriptions: is empty"),
        ("not toml at all", "config.toml: "),
        ('drain = "soon"\n' + MINIMAL, "drain: 'soon' is no duration above 0; write 100ms, 0.5s, 2m, 1h30m or 5d"),
        ("drain = 0\n" + MINIMAL, "drain: "),
        ('rotate_after = "9s"\n' + MINIMAL, "rotate_after: "),
        ("redundancy = 0\n" + MINIMAL, "redundancy: "),
        ('local_addresses = ["eth0"]\n' + MINIMAL, "local_addresses[0]: 'eth0' does not appear to be an IPv4 or IPv6"),
        (MINIMAL + 'others = ["wss://b"]', "set redundancy = 2 at the top"),
        ("depth = 5\n" + MINIMAL, "depth and every go together"),
        ('depth = 5\nevery = 1\nsink.x = {type = "stdout", form = "raw"}\n' + MINIMAL, "sink.x.form: books at fixed"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, complaint):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("text", "span"),
    [("0.5", 0.5), (".5", 0.5), ("100ms", 0.1), ("1s", 1), ("90s", 90), ("2m", 120), ("1.5h", 5400), ("1d", 86400)],
)
def test_durations_are_numbers_with_or_without_a_unit(tmp_path, text, span):
    assert seconds(text) == pytest.approx(span)
    assert load(tmp_path, f'drain = "{text}"\n{MINIMAL}').drain == pytest.approx(span)


@pytest.mark.parametrize(
    ("text", "span"),
    [("1m30s", 90), ("1h30m", 5400), ("1d12h", 129_600), ("1m500ms", 60.5), ("1h0m1s", 3601), ("2m.5s", 120.5)],
)
def test_a_duration_may_have_several_units_the_largest_first(text, span):
    assert seconds(text) == pytest.approx(span)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0h0m", "-1", "1 s", "1S", "s", "nan", "inf", "1e3", "1.2.3", "100000d", "١s", "1m1m", "1s1m", "1m30"],
)
def test_what_is_no_duration_is_refused_with_one_that_is(text):
    with pytest.raises(ConfigError, match="is no duration above 0; write 100ms"):
        seconds(text)


@pytest.mark.parametrize("text", ['key = "k"', 'passphrase = "p"', 'file = "f"\nkey = "k"\nsecret = "s"'])
def test_an_account_comes_from_one_place_and_whole(tmp_path, text):
    settings = load(tmp_path, f"{MINIMAL}[account.a]\n{text}\n")
    with pytest.raises(ConfigError, match=r"^account\.a: wants a file; or key, secret"):
        config.credentials(settings, {"OKSTREAM_API_KEY": "k", "OKSTREAM_SECRET": "s"})


def test_a_wrong_value_of_a_secret_is_not_repeated(tmp_path):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, MINIMAL + '[account.main]\nkey = ["marker-of-a-secret"]\n')
    assert "marker-of-a-secret" not in str(raised.value)
    assert "account.main.key" in str(raised.value)


def test_credentials_come_from_the_environment_a_file_or_the_configuration(tmp_path):
    secret_file = tmp_path / "secret.toml"
    secret_file.write_text('key = "k2"\nsecret = "s2"\npassphrase = "p2"\n')
    secret_file.chmod(0o600)
    accounts = f'[account.a]\n[account.b]\nfile = "{secret_file}"\n[account.c]\nkey = "k3"\nsecret = "s3"\n'
    settings = load(tmp_path, MINIMAL + accounts)
    environment = {"OKSTREAM_API_KEY": "k1", "OKSTREAM_SECRET": "s1", "OKSTREAM_PASSPHRASE": "p1"}
    found = config.credentials(settings, environment)
    assert {name: (one.key, one.secret, one.passphrase) for name, one in found.items()} == {
        "a": ("k1", "s1", "p1"),
        "b": ("k2", "s2", "p2"),
        "c": ("k3", "s3", ""),
    }
    assert not re.search("k[123]|s[123]|p[12]", repr(settings) + repr(found))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("key = 'k'", "account.a: credentials file .* lacks secret"),
        ("key = 'k'\nsecret = 's'\npassphrse = 'p'", "'passphrse' is none of key, secret and passphrase"),
        ("key = ", "is not TOML"),
        ("key = 1\nsecret = 2", "must be text"),
    ],
)
def test_a_credentials_file_that_is_wrong_says_how(tmp_path, content, complaint):
    secret_file = tmp_path / "secret.toml"
    secret_file.write_text(content)
    secret_file.chmod(0o600)
    settings = load(tmp_path, MINIMAL + f'[account.a]\nfile = "{secret_file}"\n')
    with pytest.raises(ConfigError, match=complaint):
        config.credentials(settings)
    with pytest.raises(ConfigError, match="lacks OKSTREAM_API_KEY and OKSTREAM_SECRET"):
        config.credentials(load(tmp_path, MINIMAL + "[account.a]\n"), {})
