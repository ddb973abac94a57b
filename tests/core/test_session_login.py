"""The first word of a conversation: the login, and what nobody may read of it."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from airing import ORDERS, TICKER, TRADES, on_air
from exchange import (
    CREDENTIALS,
    LOGIN,
    Call,
    arg,
    error,
)

from okstream.dialects.signing import Credentials
from okstream.encoding import encode
from okstream.errors import LinkError, LoginRefusedError
from okstream.session.budget import Budget
from okstream.venues import V3_LIMITS


class TestLogin:
    def test_the_login_goes_first_and_alone(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        assert [request["op"] for request in call.sent()] == ["login"]
        assert call.sent() == []
        call.hears(LOGIN)
        assert call.session.ready
        (request,) = call.sent()
        assert (request["op"], request["args"]) == ("subscribe", [arg(ORDERS)])

    def test_without_credentials_there_is_none(self):
        assert [request["op"] for request in Call([TICKER]).sent()] == ["subscribe"]

    def test_a_refused_login_ends_the_session_for_good(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.sent()
        call.hears(error("60005", "Invalid apiKey"))
        assert isinstance(call.session.ending, LoginRefusedError)
        assert call.session.ending.code == "60005"
        assert call.sent() == []

    def test_a_login_that_may_succeed_later_ends_the_connection_only(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.hears(error("63999", "Login failed due to internal error. Please try again later."))
        assert type(call.session.ending) is LinkError

    def test_a_login_without_an_answer_ends_the_connection(self):
        call = Call([ORDERS], credentials=CREDENTIALS)
        call.wait(9.9)
        assert call.session.ending is None
        call.wait(10.0)
        assert type(call.session.ending) is LinkError

    @pytest.mark.parametrize("credentials", [None, CREDENTIALS])
    def test_an_answer_to_no_login_changes_nothing(self, credentials: Any):
        call = on_air(TICKER, credentials=None)
        if credentials:
            call = Call([TICKER], credentials=credentials)
            call.hears(LOGIN)
        call.hears(error("60005", "Invalid apiKey"))
        assert call.session.ending is None
        assert call.session.counters["unknown"] == 1

    def test_a_spent_budget_allows_no_login(self):
        budget, limits = Budget(1), replace(V3_LIMITS, requests=1)
        Call([ORDERS], credentials=CREDENTIALS, budget=budget, limits=limits)
        again = Call([ORDERS], credentials=CREDENTIALS, budget=budget, limits=limits)
        assert type(again.session.ending) is LinkError


class TestSecrets:
    """Nothing that is said ever contains a part of the credentials."""

    @staticmethod
    def leaks(text: str) -> list[str]:
        return [
            secret[start : start + 6]
            for secret in CREDENTIALS.secrets
            for start in range(len(secret) - 5)
            if secret[start : start + 6] in text
        ]

    @staticmethod
    def all_said(call: Call, got: list[Any]) -> str:
        session = call.session
        texts = [encode(record).decode() for record in got]
        texts += [
            repr(call.feeds),
            repr(session),
            str(session.counters),
            str(session.leaving),
            str(session.remarks),
            str(session.ending),
        ]
        texts += [repr(session.ending), str(getattr(session.ending, "code", "")), repr(session.settled)]
        return "\n".join(texts).replace("\\\\", "\\")

    @pytest.mark.parametrize("cut", [10_000, 130, 90, 60])
    @pytest.mark.parametrize("echo", ["Invalid request: {}", "Illegal request: {} (and so on)", "{}"])
    @pytest.mark.parametrize("code", ["60009", "60012", "60005"])
    def test_a_refusal_that_echoes_the_login(self, echo: str, code: str, cut: int):
        call = Call([TICKER], credentials=CREDENTIALS)
        login = call.session.to_send(0.0)[0].decode()
        got = call.records(error(code, echo.replace("{}", login)[:cut]))
        said = self.all_said(call, got)
        assert not self.leaks(said)
        sign = orjson.loads(login)["args"][0]["sign"]
        assert sign[:12] not in said

    def test_a_refused_subscription_a_notice_and_a_code_that_echo(self):
        secret = " ".join(CREDENTIALS.secrets)
        call = Call([TICKER, TRADES], credentials=CREDENTIALS)
        login = call.session.to_send(0.0)
        assert login
        call.hears(LOGIN)
        call.sent()
        got = call.records(
            {"event": "notice", "code": "64008", "msg": secret},
            error(secret, secret, "1"),
            error("60018", secret[:40], "1"),
            {"event": "channel-conn-count-error", "channel": "tickers", "connCount": secret},
        )
        got += call.records(*([orjson.dumps({"event": secret, "arg": secret, "id": 5})] * 30))
        assert len(call.session.settled) == 2
        assert not self.leaks(self.all_said(call, got))

    def test_the_last_unreadable_message_is_not_quoted(self):
        call = on_air(TICKER)
        call = Call([TICKER], credentials=CREDENTIALS)
        call.hears(LOGIN)
        call.accept()
        for _ in range(20):
            call.hears({"data": [], "arg": {"channel": [CREDENTIALS.secret], "x": 1, "y": {}}, "event": "subscribe"})
        call.hears(*([b'{"' + CREDENTIALS.secret.encode()] * 20))
        assert call.session.ending is not None
        assert not self.leaks(self.all_said(call, []))

    def test_a_short_passphrase_is_hidden_and_the_rest_is_shown(self):
        call = Call([TICKER], credentials=Credentials("key-key-key", "secret-secret", "q7"))
        call.hears(error("60024", "Wrong passphrase q7 given"))
        assert str(call.session.ending) == "login refused: Wrong passphrase *** given (60024)"

    def test_what_is_shown_of_a_message_has_a_limit(self):
        call = Call([TICKER])
        call.sent()
        call.hears(error("60018", "x" * 1_000_000, "1"))
        (refusal,) = call.outcomes().values()
        assert refusal is not None
        assert len(refusal.message) < 600

    def test_an_innocent_message_is_shown_as_it_is(self):
        call = Call([TICKER], credentials=CREDENTIALS)
        call.hears(error("60032", "API key doesn't exist."))
        assert "API key doesn't exist." in str(call.session.ending)
