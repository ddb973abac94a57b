"""What sinks of one configuration would do to each other, and filters that nothing passes: said before all begins."""

import os
import re

import pytest
from support.commands import okstream

from okstream import config
from okstream.errors import ConfigError

HEAD = '[[source]]\nvenue = "okx"\nsubscriptions = ["trades:BTC-USDT", "ticker:BTC-USDT", "book:*-USDT-SWAP"]\n'


def table(name, **options):
    return f'[sink.{name}]\ntype = "file"\n' + "".join(f'{key} = "{value}"\n' for key, value in options.items())


def load(tmp_path, text, head=HEAD):
    path = tmp_path / "config.toml"
    path.write_text(head + text)
    return config.load(str(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (table("a", path="x/{date}.jsonl") + table("b", path="./x/{date}.jsonl"), "sink.b.path: ./x/{date}.jsonl is "
         "sink.a.path already; each needs files of its own"),
        (table("a", path="a", spool="s") + table("b", path="b", spool="s/"), "sink.b.spool: s is sink.a.spool already"),
        (table("a", path="a", dead_letters="./a"), "sink.a.dead_letters: a is sink.a.path already"),
        (table("a", path="a", dead_letters="d") + table("b", path="b", dead_letters="d"),
         "sink.b.dead_letters: d is sink.a.dead_letters already"),
    ],
)  # fmt: skip
def test_two_that_would_write_to_one_place_are_refused(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=re.escape(f"config.toml: {complaint}")):
        load(tmp_path, text)


def test_a_pipe_takes_lines_of_several(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    load(tmp_path, table("a", path=tmp_path / "pipe") + table("b", path=tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('channels = ["trade"]', ["channels: nothing that is subscribed to is 'trade'; did you mean 'trades'?"]),
        ('types = ["funding", "trade"]', ["types: nothing that is subscribed to is 'funding'"]),
        ('venues = ["okx-eu"]', ["venues: nothing that is subscribed to is 'okx-eu'; did you mean 'okx'?"]),
        ('instruments = ["*-EUR"]\nchannels = ["ticker"]', ["instruments: nothing that is subscribed to is '*-EUR'"]),
        ('instruments = ["BTC-USDT"]\nchannels = ["book"]', []),
        ('channels = ["trades", "bo*"]', []),
        ('channels = ["trades"]\ntypes = ["ticker"]', [": nothing that is subscribed to passes all its filters"]),
    ],
)
def test_a_filter_that_nothing_passes_is_said(tmp_path, options, said):
    head = HEAD.replace(', "book:*-USDT-SWAP"', "") if "EUR" in options else HEAD
    found = config.idle_filters(load(tmp_path, f'[sink.a]\ntype = "stdout"\n{options}\n', head))
    assert len(found) == len(said)
    for one, expected in zip(found, said, strict=True):
        assert expected in one.removeprefix("sink.a.")


def checked(tmp_path, text, *arguments, head=HEAD):
    (tmp_path / "c.toml").write_text(head + text)
    return okstream("run", "--config", "c.toml", *arguments, cwd=tmp_path)


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_latest_of_what_is_no_state_is_refused_before_anything_is_opened(tmp_path, arguments):
    text = '[sink.a]\ntype = "stdout"\nwhen_full = "latest"\n'
    done = checked(tmp_path, text, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "okstream: c.toml: sink.a.when_full: `latest` is for" in done.stderr
    assert "trades:BTC-USDT is none of them" in done.stderr


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_what_needs_an_account_is_named_with_its_source(tmp_path, arguments):
    more = '[[source]]\nvenue = "okx-eea"\nsubscriptions = ["orders:instType=SPOT"]\n'
    done = checked(tmp_path, "", *arguments, head=HEAD + more)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"okstream: c\.toml: source\[1\]: orders\S* needs an account, .*\[account\.NAME\]\n", done.stderr)


def test_methods_of_a_sink_that_cannot_be_awaited_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plainsinks.py").write_text(
        "class Sync:\n    def open(self): ...\n    async def write(self, batch): ...\n    def close(self): ...\n"
    )
    with pytest.raises(ConfigError, match=r"sink\.a\.type: plainsinks:Sync: open and close must be async"):
        load(tmp_path, '[sink.a]\ntype = "plainsinks:Sync"\n')
