"""Where markets are reached, and what `--url` makes of them."""

import pytest

from okstream.errors import ConfigError
from okstream.venues import DIALECTS, SIM, VENUES, find, simulated

OKX = VENUES["okx"]


def urls(url, venue=OKX):
    there = venue.at(url)
    return {kind: there.link_url(kind) for kind in there.paths}


def test_every_venue_has_whole_urls_and_a_known_dialect():
    for name, venue in VENUES.items():
        assert venue.name == name
        assert venue.dialect in DIALECTS
        assert venue.note
        assert venue.rest is None or venue.rest.startswith("https://")
        for kind in venue.paths:
            assert venue.link_url(kind).startswith("wss://")


def test_the_global_site_has_a_path_for_each_kind_of_connection():
    assert {kind: OKX.link_url(kind) for kind in OKX.paths} == {
        "public": "wss://ws.okx.com/ws/v5/public",
        "private": "wss://ws.okx.com/ws/v5/private",
        "business": "wss://ws.okx.com/ws/v5/business",
    }


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9000", "ws://127.0.0.1:9000/"])
def test_a_base_url_gets_the_paths_of_the_venue(url):
    assert urls(url)["private"] == "ws://127.0.0.1:9000/ws/v5/private"


def test_one_url_with_a_known_path_stands_for_all_kinds():
    assert urls("wss://gate.example/ws/v5/public") == {
        "public": "wss://gate.example/ws/v5/public",
        "private": "wss://gate.example/ws/v5/private",
        "business": "wss://gate.example/ws/v5/business",
    }


def test_a_prefix_before_a_known_path_is_kept():
    assert urls("wss://gate.example/okx/ws/v5/public/")["business"] == "wss://gate.example/okx/ws/v5/business"


def test_one_whole_url_with_a_path_of_its_own_is_used_as_it_is():
    assert set(urls("wss://gate.example/feed").values()) == {"wss://gate.example/feed"}


def test_the_query_is_kept():
    assert urls("wss://wspap.okx.com/ws/v5/public?brokerId=9999") == {
        "public": "wss://wspap.okx.com/ws/v5/public?brokerId=9999",
        "private": "wss://wspap.okx.com/ws/v5/private?brokerId=9999",
        "business": "wss://wspap.okx.com/ws/v5/business?brokerId=9999",
    }
    assert urls("wss://gate.example/feed?t=1")["public"] == "wss://gate.example/feed?t=1"
    assert urls("wss://gate.example?t=1")["public"] == "wss://gate.example/ws/v5/public?t=1"


def test_port_8443_which_was_switched_off_is_left_out_on_okx_hosts():
    assert urls("wss://ws.okx.com:8443/ws/v5/public")["public"] == "wss://ws.okx.com/ws/v5/public"
    assert urls("wss://wseea.okx.com:8443")["private"] == "wss://wseea.okx.com/ws/v5/private"


@pytest.mark.parametrize("host", ["real.okex.com:8443", "okx.com.example:8443", "[::1]:8443", "ws.okx.com:443"])
def test_any_other_port_or_host_stays_as_written(host):
    assert urls(f"wss://{host}")["public"] == f"wss://{host}/ws/v5/public"


def test_another_url_means_no_rest_interface_and_nothing_else_changes():
    there = OKX.at("ws://127.0.0.1:9000")
    assert there.rest is None
    assert (there.name, there.dialect, there.limits) == (OKX.name, OKX.dialect, OKX.limits)
    assert OKX.url == "wss://ws.okx.com"


@pytest.mark.parametrize(
    "url",
    ["", "ws.okx.com", "https://ws.okx.com", "wss://", "wss:///ws/v5/public", "ws://host:port", "ws://host:99999", "ws://[::1"],
)  # fmt: skip
def test_what_is_not_a_websocket_url_is_refused(url):
    with pytest.raises(ConfigError, match="URL"):
        OKX.at(url)


def test_the_rest_interface_of_another_place_is_asked_there():
    assert OKX.at("ws://127.0.0.1:9000", "http://127.0.0.1:9001/api/").rest == "http://127.0.0.1:9001/api"
    assert OKX.asked_at("https://gate.example").url == OKX.url
    assert OKX.at("ws://127.0.0.1:9000", "http://127.0.0.1:9001").answers


@pytest.mark.parametrize(
    "url", ["", "gate.example", "wss://gate.example", "https://", "http://host:port", "https://host?key=1", "https://host#a"]
)  # fmt: skip
def test_what_is_no_base_of_a_rest_interface_is_refused(url):
    with pytest.raises(ConfigError, match=r"REST|URL"):
        OKX.asked_at(url)


def test_a_dialect_whose_rest_interface_nobody_knows_is_not_asked():
    with pytest.raises(ConfigError, match="okex-v3, which has no REST interface"):
        VENUES["okex-v3"].at("ws://127.0.0.1:9000", "http://127.0.0.1:9001")


def test_venues_are_found_by_name():
    assert find("okex-v3") is VENUES["okex-v3"]


def test_an_unknown_venue_is_answered_with_what_exists_and_what_was_meant():
    with pytest.raises(ConfigError, match=r"no venue 'okx-eu'\. Did you mean 'okx-e?e?a?u?s?'\?.*okx-eea.*sim"):
        find("okx-eu")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_simulated_exchange_speaks_every_dialect(dialect):
    venue = simulated(dialect, "ws://127.0.0.1:9000", "http://127.0.0.1:9001")
    assert (venue.name, venue.dialect, venue.rest) == (SIM, dialect, "http://127.0.0.1:9001")
    assert all(venue.link_url(kind).startswith("ws://127.0.0.1:9000/") for kind in venue.paths)


def test_the_simulated_exchange_speaks_no_other_dialect():
    with pytest.raises(ConfigError, match="Did you mean 'okx-v5'"):
        simulated("okx-5", "ws://127.0.0.1:9000", "http://127.0.0.1:9001")
