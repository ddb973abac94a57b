"""Several stores at once, in real processes: what each holds, with the gaps it was told of, is all there was."""

from stores.plan import Plan, Store, Stroke
from stores.runs import play
from support.filed import unfinished

STORES = (
    Store("archive", "file", {"path": "{channel}/{inst}/{date}-{hour}.jsonl.zst", "batch_records": 99, "linger": 0.05}),
    Store("broker", "nats", {"batch_records": 100, "spool_always": True, "ack_timeout": 0.5}, "always"),
    Store("out", "stdout", {"batch_records": 100, "lane_records": 50, "when_full": "drop_oldest"}),
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
    shown = play(Plan(1, "okx-v5", 1, "zero", STORES, FAULTS, in_turn=True, calm=0.0), tmp_path)
    assert not unfinished(tmp_path / "data")
    assert {"broker-kill", "SIGKILL", "drop", "broker-stop", "reader"} <= shown.faults.keys()
    assert shown.counts["restarts"] == shown.counts["acknowledgements lost"] == 1
    archive, broker, out = (shown.stores[store.name] for store in STORES)
    for one in (archive, broker, out):
        assert one.again == 0, "nothing is written to them twice"
        assert one.report.checked, "no book was compared, so nothing was shown"
    assert archive.last == broker.last, "it ended as asked, but not all is written"
    assert archive.missing, "nothing was lost, so nothing was shown"
    assert {"start", "disconnected"} <= archive.report.reasons.keys()
    assert "overflow" in out.report.reasons, "nothing was dropped, so nothing was shown"
