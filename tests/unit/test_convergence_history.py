"""The checker of many devices sees each kind of anomaly."""

from state.log.merge import Change, Snapshot
from tests.convergence.history import BY, Seen, anomalies, replay

AT = "2026-04-26T10:00:0{}.000Z"


def row(number: int, at: int, **values: str) -> Change:
    stamps = {name: AT.format(at) for name in values}
    id_ = f"00000000-0000-0000-0000-00000000000{number}"
    return Change(id_, number, "insert", dict(values), dict(stamps), "u1")


LOG = {
    "r1": [row(1, 1, **{BY: "d.1", "title": "a"}), row(3, 2, **{BY: "d.2", "title": "b"})],
    "r2": [row(2, 1, **{BY: "d.1", "title": "a2"})],
}
BEGUN = {"d.1": frozenset({"r1", "r2"}), "d.2": frozenset({"r1"})}


def seen(*reads: dict[tuple[str, str], str], **changed: object) -> Seen:
    given = {"begun": BEGUN, "kept": set(BEGUN), "reads": list(reads)} | changed
    return Seen("d", **given)  # pyright: ignore[reportArgumentType] - one dict for all three


def test_a_run_that_is_whole():
    reads = {("r1", "title"): "a"}, {("r1", "title"): "b"}
    assert anomalies(LOG, [seen(*reads)], {"d": replay(LOG)}) == []


def test_a_transaction_that_is_lost_torn_or_doubled():
    assert anomalies(LOG, [seen(kept={"d.3"}, begun=BEGUN | {"d.3": frozenset({"r1"})})], {}) == [
        "lost: transaction d.3"
    ]
    assert "torn" in anomalies({"r1": LOG["r1"]}, [seen()], {})[0]
    twice = LOG | {"r2": [*LOG["r2"], row(4, 1, **{BY: "d.1", "title": "a2"})]}
    assert "doubled" in anomalies(twice, [seen()], {})[0]
    assert "nobody's" in anomalies(LOG, [], {})[0]


def test_a_read_that_goes_back_in_time():
    reads = {("r1", "title"): "b"}, {("r1", "title"): "a"}
    (told,) = anomalies(LOG, [seen(*reads)], {})
    assert "back in time: a after b" in told


def test_a_device_that_ends_with_something_else():
    other = replay(LOG) | {"r2": Snapshot({"title": "x"}, {"title": AT.format(1)}, exists=True)}
    (told,) = anomalies(LOG, [seen()], {"d": other})
    assert told.startswith("d has another r2: ")
