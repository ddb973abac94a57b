"""The configuration file: what it can say, and what it is told when it says something wrong."""

import re
from pathlib import Path

import pytest

from okstream import config
from okstream.durations import seconds
from okstream.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"

MINIMAL = '[[source]]\nvenue = "okx"\nsubscriptions = ["ticker:BTC-USDT"]\n'


def load(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(str(path))


def test_the_example_is_valid_as_it_stands():
    settings = config.load(str(EXAMPLE))
    assert settings.source[0].venue == "sim"


def test_the_example_is_valid_with_every_default_written_out(tmp_path):
    text = re.sub(r"^# (?=\[|\w+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace('venue = "sim"', 'venue = "okx"').replace("redundancy = 1", "redundancy = 2")
    settings = load(tmp_path, text)
    assert settings.source[0].name == "okx-2"
    assert settings.account["main"].file == "/etc/okstream/main.toml"
    assert (settings.rotate_after, settings.stats, settings.output.every) == (43200, 60, 0.1)


def test_the_example_shows_every_option_with_its_default():
    text = EXAMPLE.read_text()
    for section in (config.Settings, config.Source, config.Output, config.Account):
        for name, option in section.model_fields.items():
            if name not in {"source", "output", "account"}:
                shown = re.search(rf"^(?:# )?{name} = (.+)$", text, re.MULTILINE)
                assert shown, f"{name} is missing"
                if isinstance(option.default, bool | int | float | str):
                    shown_text = shown[1].strip('"')
                    assert shown_text == str(option.default).lower() or shown_text == str(option.default), name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "source"),
        (MINIMAL + 'acount = "x"', "source[0].acount: there is no such option; did you mean 'account'?"),
        ("lane_mb = 3\n" + MINIMAL, "lane_mb: there is no such option; did you mean 'lane_mib'?"),
        ("lane_mib = 0\n" + MINIMAL, "lane_mib: "),
        (MINIMAL.replace("okx", "okk"), "source[0]: there is no venue 'okk'. Did you mean 'okx'?"),
        (
            MINIMAL.replace("ticker:BTC-USDT", "ticker:"),
            "source[0]: ticker: an item is empty; write ticker:BTC-USDT,ETH-USDT",
        ),
        (MINIMAL + 'account = "main"', "source[0].account: there is no [account.main]"),
        (MINIMAL + '[output]\ntype = "file"', "output.path is missing"),
        (MINIMAL + '[output]\ntype = "kafka"', "output.type: "),
        ("not toml at all", "config.toml: "),
        ('drain = "soon"\n' + MINIMAL, "drain: 'soon' is no duration above 0; write 100ms, 0.5s, 2m or 1h"),
        ("drain = 0\n" + MINIMAL, "drain: "),
        ('rotate_after = "9s"\n' + MINIMAL, "rotate_after: "),
        ("redundancy = 0\n" + MINIMAL, "redundancy: "),
        ('local_addresses = ["eth0"]\n' + MINIMAL, "local_addresses[0]: 'eth0' does not appear to be an IPv4 or IPv6"),
        (MINIMAL + 'others = ["wss://b"]', "set redundancy = 2 at the top"),
        (MINIMAL + "[output]\ndepth = 5", "output.depth and output.every go together"),
        (MINIMAL + '[output]\ndepth = 5\nevery = 1\nform = "raw"', "output.depth: books at fixed times are records"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, complaint):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("text", "span"),
    [("0.5", 0.5), (".5", 0.5), ("100ms", 0.1), ("1s", 1), ("2m", 120), ("1.5h", 5400), ("1d", 86400)],
)
def test_durations_are_numbers_with_or_without_a_unit(tmp_path, text, span):
    assert seconds(text) == pytest.approx(span)
    assert load(tmp_path, f'drain = "{text}"\n{MINIMAL}').drain == pytest.approx(span)


@pytest.mark.parametrize(
    "text", ["", "0", "0ms", "-1", "1 s", "1S", "s", "nan", "inf", "1e3", "1.2.3", "100000d", "١s"]
)
def test_what_is_no_duration_is_refused_with_one_that_is(text):
    with pytest.raises(ConfigError, match="is no duration above 0; write 100ms"):
        seconds(text)


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
    [("key = 'k'", "lacks secret"), ("key = ", "is not TOML"), ("key = 1\nsecret = 2", "must be text")],
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
