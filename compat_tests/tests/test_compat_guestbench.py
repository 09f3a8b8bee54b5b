# SPDX-License-Identifier: MIT
"""The bench against virtio: what becomes of what guest, programs and counters say; no guest."""

from __future__ import annotations

import json

import pytest

from vbuskit.base.errors import VbuskitError
from vbuskit.compat.guestbench import Counters, Moved, Side, Taken, Trial, compared, interrupts, judged
from vbuskit.compat.guestbench_disk import done
from vbuskit.compat.guestbench_net import kicks, received
from vbuskit.drivers.figures import Figure, Result

GB = 10**9


def taken(seconds: float, interrupts: int = 10, cpu: float = 1.0, worker: float = 0.0) -> Taken:
    """One GB in a hundred frames."""
    cost = Counters(cpu=cpu, worker=worker, interrupts=interrupts, doorbells=0, units=100)
    return Taken(Moved(GB, seconds), cost)


def trial(rate: str = "MB/s", few_interrupts: bool = False) -> Trial[Side]:
    return Trial("net", "TCP", "frame", rate, lambda side: Moved(GB, 1.0), few_interrupts)


def figure(result: Result, name: str) -> Figure:
    (found,) = [one for one in result.figures if one.name == f"TCP: {name}"]
    return found


def test_each_run_is_compared_with_the_other_of_its_pair() -> None:
    """Both get slower by half: medians alone would say that nothing is equal to what."""
    result = judged(trial(), [taken(1.0), taken(2.0), taken(4.0)], [taken(1.0), taken(2.0), taken(4.0)])
    assert figure(result, "vbus / virtio, pair by pair").values == (1.0, 1.0, 1.0)
    assert figure(result, "vbus").values == (1000.0, 500.0, 250.0)


@pytest.mark.parametrize(("seconds", "holds"), [(0.5, True), (1.0, True), (1.01, False)])
def test_the_bar_of_speed_is_virtio_of_the_same_pair(seconds: float, holds: bool) -> None:
    (speed,) = judged(trial(), [taken(seconds)], [taken(1.0)]).bars
    assert (speed.holds, speed.bound) == (holds, 1.0)


@pytest.mark.parametrize(("count", "holds"), [(9, True), (10, True), (11, False)])
def test_the_bar_of_interrupts_is_what_virtio_takes(count: int, holds: bool) -> None:
    _, few = judged(trial(few_interrupts=True), [taken(1.0, count)], [taken(1.0, 10)]).bars
    assert (few.holds, few.bound, few.seen) == (holds, 0.1, count / 100)


def test_requests_a_second_are_what_passed_and_not_bytes() -> None:
    result = judged(trial("requests/s"), [taken(0.5)], [taken(1.0)])
    assert figure(result, "vbus").values == (200.0,)


def test_the_workers_part_of_the_processor_is_told_of_who_has_a_worker() -> None:
    result = judged(trial(), [taken(1.0, cpu=3.0, worker=0.5)], [taken(1.0)])
    assert figure(result, "vbus, CPU").values == (3.0,)
    assert figure(result, "vbus, the worker's part").values == (0.5,)
    assert not [one for one in result.figures if one.name == "TCP: virtio, the worker's part"]


def test_a_run_that_nobody_counted_is_an_error() -> None:
    nothing = Taken(Moved(GB, 1.0), Counters(cpu=1.0, worker=0, interrupts=1, doorbells=0, units=0))
    with pytest.raises(VbuskitError, match="nothing passed"):
        judged(trial(), [nothing], [taken(1.0)])


class Fake(Side):
    """Counts the frames that its trial moves."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls, self.units = name, calls, 0

    def look(self) -> Counters:
        return Counters(cpu=0, worker=0, interrupts=0, doorbells=0, units=self.units)

    def work(self) -> Moved:
        self.calls.append(self.name)
        self.units += 7
        return Moved(70, 1.0)


def test_the_two_take_turns_and_the_first_round_is_thrown_away() -> None:
    calls: list[str] = []
    sides = (Fake("vbus", calls), Fake("virtio", calls))
    work: Trial[Fake] = Trial("net", "TCP", "frame", "MB/s", lambda side: side.work())
    result = compared(sides, [work], 2, {"tea": "none was left"})
    assert result.skipped == {"tea": "none was left"}
    assert calls == ["vbus", "virtio"] * 3
    assert figure(result, "vbus, bytes").values == (10.0, 10.0)


LISTING = """\
           CPU0       CPU1
  0:          9          0   IO-APIC   2-edge      timer
 24:        100          5   PCI-MSI 81920-edge      virtio1-config
 25:         10          2   PCI-MSI 81921-edge      virtio1-input.0
 26:          3          0   PCI-MSI 81922-edge      virtio10-input.0
 27:         40          1   PCI-MSI 262144-edge      vbus0-q0
 40:         30          0      vbus   1-edge      eth1-rx0
NMI:          0          0   Non-maskable interrupts
ERR:          0
"""


def test_interrupts_are_those_of_one_device_on_all_processors() -> None:
    assert interrupts(LISTING, r"virtio1-.*") == 117
    assert interrupts(LISTING, r"vbus\d+-q\d+") == 41
    assert interrupts(LISTING, r"virtio1") == 0


def test_the_kicks_of_all_queues_of_a_virtio_net_are_its_doorbells() -> None:
    said = "     rx_queue_0_kicks: 5\n     rx_queue_0_drops: 3\n     tx_queue_0_kicks: 70\n"
    assert kicks(said) == 75


def test_what_the_receiver_got_counts_and_an_error_of_iperf3_is_one() -> None:
    end = {"sum_sent": {"bytes": 9, "seconds": 1}, "sum_received": {"bytes": 8, "seconds": 2.5}}
    assert received(json.dumps({"end": end})) == Moved(8, 2.5)
    with pytest.raises(VbuskitError, match="iperf3: unable to connect"):
        received(json.dumps({"error": "unable to connect"}))


def test_what_fio_moved_is_read_behind_its_warnings_and_its_error_is_one() -> None:
    none = {"io_bytes": 0, "runtime": 0}
    job = {"error": 0, "read": none, "write": {"io_bytes": 8192, "runtime": 250}}
    assert done("fio: a warning\n" + json.dumps({"jobs": [job]})) == Moved(8192, 0.25)
    with pytest.raises(VbuskitError, match="fio: error 5"):
        done(json.dumps({"jobs": [job | {"error": 5}]}))
