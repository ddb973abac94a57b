"""Several stores at once, in real processes: what each holds, with the gaps it was told of, is all there was."""

from stores import judging, texts
from stores.plan import Plan, Store, Stroke
from stores.runs import play
from support.filed import unfinished

STORES = (
    Store("archive", "file", {"path": "{channel}/{inst}/{date}-{hour}.jsonl.zst", "batch_records": 99, "linger": 0.05}),
    Store("broker", "nats", {"batch_records": 100, "spool_always": True, "ack_timeout": 0.5}, "always"),
    Store("out", "stdout", {"batch_records": 100, "lane_records": 50, "when_full": "drop_oldest", "form": "raw"}),
)  # fmt: skip

FAULTS = (
    Stroke(0, "broker-kill", 1.2),
    Stroke(0, "kill"),
    Stroke(0, "exchange", text="drop"),
    Stroke(0, "broker-stop", 0.8),
    Stroke(0, "acks"),
    Stroke(0, "reader", 1.5),
)


def test_a_file_and_a_broker_hold_all_there_was_or_say_what_they_lack_after_kills_of_both(tmp_path):
    shown = play(Plan(1, "okx-v5", 1, "zero", STORES, FAULTS, in_turn=True, calm=0.0, account=True), tmp_path)
    assert not unfinished(tmp_path / "data")
    assert {"broker-kill", "SIGKILL", "drop", "broker-stop", "reader"} <= shown.faults.keys()
    assert shown.counts["restarts"] == shown.counts["acknowledgements lost"] == 1
    archive, broker, out = (shown.stores[store.name] for store in STORES)
    for one in (archive, broker, out):
        assert one.again == 0, "nothing is written to them twice"
    for one in (archive, broker):
        assert one.report.checked, "no book was compared, so nothing was shown"
        assert {"orders", "fills", "account"} <= {sub.channel for sub, _ in one.last}, "nothing of the account"
    assert once(archive.last) == once(broker.last), "it ended as asked, but not all is written"
    assert archive.missing, "nothing was lost, so nothing was shown"
    assert {"start", "disconnected"} <= archive.report.reasons.keys()
    assert "overflow" in out.report.reasons, "nothing was dropped, so nothing was shown"
    for store, wrong in ((STORES[1], falsified), (STORES[2], falsified_texts)):
        lines = shown.lines[store.name]
        assert passes(store, lines, shown.truth)
        assert [what for what, these in wrong(lines).items() if passes(store, these, shown.truth)] == []


def test_a_process_that_stood_still_wakes_up_to_what_it_missed_or_says_so(tmp_path):
    faults = (Stroke(0, "stop", 2.0), Stroke(0, "exchange", text="drop"), Stroke(0, "stop", 1.0))
    shown = play(Plan(2, "okx-v5", 2, "zero", STORES, faults, in_turn=True, calm=0.0), tmp_path)
    assert shown.faults["SIGSTOP"] == 2
    archive, broker = (shown.stores[store.name] for store in STORES[:2])
    assert archive.again == broker.again == 0
    assert archive.report.checked
    assert archive.last == broker.last


def once(last):
    """Return `last` without what a broker stores once though it was shown again."""
    return {whose: record for whose, record in last.items() if whose[0].channel not in ("account", "positions")}


def passes(store, lines, truth):
    """Return whether these lines of a store are held for right."""
    try:
        (texts if store.raw else judging).judged(store, lines, truth)
    except AssertionError:
        return False
    return True


def falsified(lines):
    """Return `lines` with something wrong about them, by what that is."""
    trades = [at for at, line in enumerate(lines) if b'"channel":"trades-all","inst":"BTC-USDT"' in line]
    trades = [at for at in trades if lines[at].startswith(b'{"type":"trade"')]
    one, other = trades[len(trades) // 2], trades[len(trades) // 2 + 1]
    change = together(lines, b'{"type":"book"', b'"inst":"BTC-USDT",', b'"action":"update"')[1]
    order = together(lines, b'{"type":"order"', b'"inst":"BTC-USDT",')[1]
    swapped = list(lines)
    swapped[one], swapped[other] = lines[other], lines[one]
    return {
        "a trade is missing": [*lines[:one], *lines[one + 1 :]],
        "a change of a book is missing": [*lines[:change], *lines[change + 1 :]],
        "what became of an order is missing": [*lines[:order], *lines[order + 1 :]],
        "an order is another's": [*lines[:order], lines[order].replace(b'"main"', b'"other"'), *lines[order + 1 :]],
        "a price is another": [*lines[:one], lines[one].replace(b'"price":"6', b'"price":"7'), *lines[one + 1 :]],
        "two trades are not in order": swapped,
        "a trade is there twice": [*lines[: other + 1], lines[one], *lines[other + 1 :]],
        "nothing is said of what is missing": [line for line in lines if not line.startswith(b'{"type":"gap"')],
    }


def together(lines, *said):
    """Return the places of three lines that have all that is `said`, with no gap from the first to the last."""
    found = []
    for at, line in enumerate(lines):
        if line.startswith(b'{"type":"gap"'):
            found.clear()
        elif all(one in line for one in said):
            found.append(at)
            if len(found) == 3:
                return found
    raise AssertionError(f"no three of {said} come one after the other")


def falsified_texts(lines):
    """Return the same of the exchange's own texts."""
    a, b, c = together(lines, b'"channel":"books","instId":"BTC-USDT"},"action":"update"')
    swapped = list(lines)
    swapped[a], swapped[b] = lines[b], lines[a]
    return {
        "a text is missing": [*lines[:b], *lines[b + 1 :]],
        "a text is another": [*lines[:b], lines[b].replace(b'"update"', b'"Update"'), *lines[b + 1 :]],
        "two texts are not in order": swapped,
        "a text is there twice": [*lines[: c + 1], lines[a], *lines[c + 1 :]],
        "nothing is said of what is missing": [line for line in lines if not line.startswith(b'{"type":"gap"')],
    }
