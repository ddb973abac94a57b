"""Signatures against the vectors of the protocol pages, and secrets that stay secret."""

import base64
import hashlib
import hmac
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okstream.dialects.signing import LOGIN_PATH, Credentials, hmac_sha256, md5

SECRET = "22582BD0CFF14C41EDBF1AB98506286D"
KEY = "c821db84-6fbd-11e4-a9e3-c86000d26d7c"


@pytest.mark.parametrize(
    ("timestamp", "secret", "sign"),
    [
        ("1704876947", SECRET, "5/36BgGV6m/6pmdc20zdqk0mzF5ZalmzzPD2fo3wavU="),
        ("1538054050.975", SECRET, "kxeu+amF0VVK30XKQqFTQMEsL9eE/t/a+gWQLoE/9rI="),
        ("1538054050.975", "secret", "DgKNU9uKoPJG46YwbcAFln7Tc3z9O96ErLmt10USdMM="),
        ("1585403514.843", "secret", "rSrtnzKJdHrc23BdRh7hQ4gfMo6qhRZbJASc3J68L4U="),
    ],
)
def test_logins_of_v3_and_v5_are_signed_as_documented(timestamp, secret, sign):
    assert hmac_sha256(secret, timestamp) == sign


@pytest.mark.parametrize(
    ("parameters", "sign"),
    [
        (
            {"api_key": KEY, "symbol": "btc_usdt", "type": "buy", "price": "680", "amount": "1.0"},
            "2E8D13ABF63D9CDD98B8E6F4780C87BC",
        ),
        ({"api_key": KEY}, "E866BBB88E0E685D3F4BBC2723E2CAF9"),
    ],
)
def test_requests_of_v1_are_signed_as_documented(parameters, sign):
    assert md5("secretKey", parameters) == sign


def test_a_sign_among_the_parameters_takes_no_part():
    assert md5("secretKey", {"api_key": KEY, "sign": "old"}) == md5("secretKey", {"api_key": KEY})


def test_a_rest_request_signs_method_path_with_query_and_body():
    assert LOGIN_PATH == "/users/self/verify"
    path = "/api/v5/trade/orders-pending?instType=SPOT"
    message = b'2020-12-08T09:08:57.715ZPOST/api/v5/trade/orders-pending?instType=SPOT{"a":1}'
    expected = base64.b64encode(hmac.new(b"k", message, hashlib.sha256).digest()).decode()
    assert hmac_sha256("k", "2020-12-08T09:08:57.715Z", path, "POST", '{"a":1}') == expected


@given(st.text(max_size=20), st.text(max_size=20))
def test_every_signature_has_its_fixed_form(secret, timestamp):
    assert len(base64.b64decode(hmac_sha256(secret, timestamp), validate=True)) == 32
    sign = md5(secret, {"api_key": timestamp})
    assert len(bytes.fromhex(sign)) == 16
    assert sign == sign.upper()


def test_credentials_show_four_characters_of_the_key_and_no_secret():
    credentials = Credentials("985d5b66-57ce-40fb", SECRET, "open sesame")
    for shown in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}"):
        assert shown.strip("[]") == "Credentials(key=...40fb)"


def test_a_short_key_is_not_shown_at_all():
    assert repr(Credentials("abcdefgh", "s")) == "Credentials(key=...)"


def test_credentials_name_what_must_never_be_shown():
    assert Credentials("k", "s", "p").secrets == ("k", "s", "p")
    assert Credentials("k", "s").secrets == ("k", "s")


def test_credentials_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Credentials("k", "s").secret = "t"  # type: ignore[misc]
