"""What the platform is told of a scan host: states, sentences, numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from manifests.messages import State
from vplc.drivers.turn import OTHERS
from vplc.scan.status import BUCKETS, Fault, Histogram, Pair, Status, TaskStatus
from workloads.vplc.health import ProcessState, Window, judge, measures, neighbours, parse_processes


def histogram(*samples_ns: int) -> Histogram:
    """Exact for samples below 32 ns."""
    counts = [0] * BUCKETS
    for ns in samples_ns:
        counts[ns] += 1
    return Histogram(tuple(counts), max(samples_ns, default=0))


def task(name: str = "Fast", **more: Any) -> TaskStatus:
    usual: dict[str, Any] = {
        "name": name, "state": "run", "priority": 1, "interval_ns": 10_000_000, "watchdog_ns": 0, "scans": 100,
        "missed": 2, "overruns": 1, "execution_last_ns": 5, "latency": histogram(10), "execution": histogram(5),
        "fault": None,
    }  # fmt: skip
    return TaskStatus(**usual | more)


def status(*tasks: TaskStatus, **more: Any) -> Status:
    usual: dict[str, Any] = dict.fromkeys(Status.__dataclass_fields__, 0)
    usual |= {
        "pid": 7, "alive": True, "phase": "running", "core": 1, "fifo_priority": 60, "memory_locked": True,
        "started_unix_ns": 1, "alarms": (), "pair": None, "tasks": tasks or (task(),),
    }  # fmt: skip
    return Status(**usual | more)


def fault(line: int = 12) -> Fault:
    return Fault("program", "Tank", "PI", line, "division by zero", 0, (1, 0))


HOST = {"host": ProcessState("host", 7, 0, "", 0)}


def test_a_host_that_scans_is_running() -> None:
    verdict = judge(status(), HOST, "", ())
    assert (verdict.state, verdict.reason, verdict.detail) == (State.RUNNING, "Ok", "")


def test_a_refused_priority_is_told_and_is_no_failure() -> None:
    verdict = judge(status(alarms=("SCHED_FIFO 60 refused",)), HOST, "", ())
    assert (verdict.state, verdict.reason) == (State.RUNNING, "Ok")
    assert verdict.detail == "alarm: SCHED_FIFO 60 refused"


def test_a_fault_names_the_unit_and_the_line() -> None:
    faulted = task(state="fault", fault=fault())
    verdict = judge(status(faulted), HOST, "", ())
    assert (verdict.state, verdict.reason) == (State.FAILED, "TaskFault")
    assert verdict.detail == "task Fast is in fault: Tank: PI, line 12: division by zero"


def test_one_task_in_fault_of_two_is_degraded() -> None:
    verdict = judge(status(task(state="fault", fault=fault()), task("Slow")), HOST, "", ())
    assert (verdict.state, verdict.reason) == (State.RUNNING, "Degraded")


def test_a_host_that_was_never_there_is_starting_and_one_that_ended_is_down() -> None:
    assert judge(None, {}, "", ()).state is State.STARTING
    ended = {"host": ProcessState("host", 0, 1, "signal 9", 0)}
    verdict = judge(status(alive=False), ended, "", ())
    assert (verdict.state, verdict.reason, verdict.detail) == (
        State.FAILED,
        "HostDown",
        "the scan host ended with signal 9",
    )
    assert "channel 3" in judge(None, ended, "channel 3 is mapped twice", ()).detail


def test_forced_values_are_named() -> None:
    assert judge(status(), HOST, "", ("Tank.pump_speed",)).detail == "forced: Tank.pump_speed"


def test_latency_is_that_of_the_last_minute_and_of_this_host_only() -> None:
    window = Window()
    early = status(task(latency=histogram(30, 30, 30)))
    assert window.latest(early, 0.0)[0].total == 3
    late = status(task(latency=histogram(30, 30, 30, 2)))
    assert window.latest(late, 30.0)[0].total == 1
    much_later = status(task(latency=histogram(30, 30, 30, 2, 3, 3)))
    assert window.latest(much_later, 95.0)[0].total == 6  # nothing younger than a minute to compare with
    other = replace(late, started_unix_ns=2, tasks=(task(latency=histogram(4)),))
    assert window.latest(other, 96.0)[0].total == 1


def test_measures_name_what_the_gate_looks_at() -> None:
    found = status(task(), task("Slow", missed=3))
    told = measures(found, [histogram(10), histogram(20)], {"host": ProcessState("host", 7, 4, "", 0)})
    assert {"jitter_p999_us", "overruns", "missed", "faults", "wake_p99_us"} <= set(told)
    assert (told["missed"], told["overruns"], told["host_restarts"], told["fifo"]) == (5, 2, 4, 1)
    assert 0.019 <= told["jitter_p999_us"] <= 0.021
    assert len(told) <= 32


def test_without_a_scan_there_is_no_jitter_to_tell() -> None:
    assert "jitter_p999_us" not in measures(status(task(latency=histogram())), [histogram()], HOST)


def test_the_keepers_state_is_read_and_half_lines_are_left_out() -> None:
    found = parse_processes("host\t12\t0\t-\t500\ndriver-io\t0\t3\tsignal 9\t900\nserver-x\t1")
    assert found["host"] == ProcessState("host", 12, 0, "", 500)
    assert found["driver-io"] == ProcessState("driver-io", 0, 3, "signal 9", 900)
    assert set(found) == {"host", "driver-io"}


def test_a_driver_is_told_by_its_device_and_as_failed_while_its_process_is_down() -> None:
    processes = parse_processes(
        "host\t1\t0\t-\t0\ndriver-io\t12\t0\t-\t0\ndriver-old\t0\t2\texit 1\t0\nserver-hmi\t9\t0\t-\t0"
    )
    row = {
        "name": "io",
        "pid": 12,
        "state": "failed",
        "reason": "timed out",
        "device": "10.0.0.7:502",
        "since_unix_ns": 5,
    }
    told = {device.name: device for device in neighbours(processes, [row], 1000, 10**12)}
    assert set(told) == {"io", "old", "server-hmi"}
    assert (told["io"].state, told["io"].reason, told["io"].since_ns) == (State.FAILED, "Unreachable", 5)
    assert told["io"].detail == "10.0.0.7:502: timed out"
    assert (told["old"].state, told["old"].reason) == (State.FAILED, "Exited")
    assert told["server-hmi"].state is State.RUNNING


def test_what_a_dead_driver_said_is_not_taken_for_its_successors_word() -> None:
    processes = parse_processes("driver-io\t13\t1\tsignal 9\t0")
    row = {"name": "io", "pid": 12, "state": "failed", "reason": "x", "device": "d", "since_unix_ns": 5}
    [told] = neighbours(processes, [row], 0, 0)
    assert told.state is State.RUNNING


def pair(duty: str, ready: bool = True, reason: str = "") -> Pair:
    return Pair(duty, "standby", 3, ready, 1, 0, 0, 100, 2, 1, reason)


def test_a_pair_says_who_leads_and_whether_the_other_could() -> None:
    leads, alone = (judge(status(pair=pair("leading", ready)), HOST, "", ()) for ready in (True, False))
    assert (leads.reason, leads.detail) == ("Ok", "leads, epoch 3, a standby is ready")
    assert (alone.reason, alone.detail) == ("Ok", "leads, epoch 3, no standby is ready")
    follows = judge(status(pair=pair("following")), HOST, "", ())
    assert (follows.state, follows.reason, follows.detail) == (State.RUNNING, "Ok", "standby, ready")


def test_a_standby_that_could_not_take_over_is_degraded_with_the_reason() -> None:
    verdict = judge(status(pair=pair("following", False, "the leader runs another program")), HOST, "", ())
    assert (verdict.reason, verdict.detail) == ("Degraded", "standby, not ready: the leader runs another program")


def test_a_pair_is_measured() -> None:
    found = measures(status(pair=pair("following")), (), HOST)
    assert (found["pair_leads"], found["pair_ready"], found["pair_epoch"], found["pair_takeovers"]) == (0, 1, 3, 1)
    assert "pair_leads" not in measures(status(), (), HOST)
    assert len(found) <= 32  # what a heartbeat carries


def test_a_driver_that_stands_by_is_as_it_should_be() -> None:
    waits = {"driver-io": ProcessState("driver-io", 9, 0, "", 0)}
    row = {"name": "io", "pid": 9, "state": "waiting", "reason": OTHERS, "device": "d", "since_unix_ns": 5}
    [found] = neighbours(waits, [row], 0, 0)
    assert (found.state, found.reason) == (State.RUNNING, "Ok")
    assert OTHERS in found.detail
