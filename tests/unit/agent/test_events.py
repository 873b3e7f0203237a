"""Events: numbered once, kept until seen, bounded."""

from __future__ import annotations

from pathlib import Path

from agent.events import KEPT, EventLog
from manifests.messages import Severity


def add(log: EventLog, count: int) -> None:
    for number in range(count):
        log.add(number, Severity.INFO, "instance-started", "a", str(number))


def test_only_events_on_disk_are_reported(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    add(log, 2)
    assert log.unseen() == ()
    log.save()
    assert [event.seq for event in log.unseen()] == [1, 2]


def test_numbers_and_unseen_events_survive_a_restart(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    add(log, 3)
    log.save()
    log.seen(1)
    log.save()
    add(log, 1)  # never saved: the agent was killed
    again = EventLog(tmp_path)
    assert again.incarnation == log.incarnation
    assert [event.seq for event in again.unseen()] == [2, 3]
    add(again, 1)
    again.save()
    assert [event.seq for event in again.unseen()] == [2, 3, 4]


def test_a_damaged_file_begins_a_new_incarnation(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    add(log, 1)
    log.save()
    (tmp_path / "events.json").write_bytes(b"\x00\x01")
    assert EventLog(tmp_path).incarnation != log.incarnation


def test_what_must_be_dropped_is_counted_by_an_event(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    add(log, KEPT * 3)
    log.save()
    kept = log.unseen(KEPT * 2)
    assert len(kept) <= KEPT
    notices = [event for event in kept if event.kind == "events-dropped"]
    assert len(notices) == 1
    started = [event for event in kept if event.kind == "instance-started"]
    assert int(notices[0].text.split()[0]) + len(started) == KEPT * 3


def test_a_log_put_back_from_an_old_copy_starts_a_new_incarnation(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.add(1, Severity.INFO, "a", "s", "t")
    log.save()
    before = log.incarnation
    log.seen(90)
    assert log.incarnation != before
    log.save()
    assert [event.kind for event in log.unseen()] == ["a"]
    log.seen(1)
    assert log.unseen() == ()
