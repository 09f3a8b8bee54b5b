# SPDX-License-Identifier: MIT
"""Frames through the loopback card come back whole, in order, one by one and many at a time."""

from __future__ import annotations

from vbuskit.compat.bench import Bench
from vbuskit.compat.cells import Cell
from vbuskit.compat.scenario import Scenario
from vbuskit.compat.traffic import interface_of

SINGLES, BURSTS, BURST = 2000, 100, 32

# perl-base is in every Debian; a frame carries its number and a pattern that depends on it. A frame that
# has not come back after a second is a lost wake-up: nothing else can lose one here.
ECHO = r"""
use strict; use warnings; use Socket;
my ($name, $singles, $bursts, $burst) = @ARGV;
open(my $f, '<', "/sys/class/net/$name/ifindex") or die "$name: $!\n";
chomp(my $index = <$f>);
socket(my $s, 17, SOCK_RAW, unpack('S', pack('n', 0x88b5))) or die "socket: $!\n";
bind($s, pack('SnlSCCa8', 17, 0x88b5, $index, 0, 0, 0, '')) or die "bind: $!\n";
sub frame { my $n = shift; my $len = 50 + ($n * 37) % 1400;
    my $head = pack('H12 H12 n N', 'ffffffffffff', '020000000001', 0x88b5, $n);
    return $head . substr(pack('N', $n) x 400, 0, $len) }
my ($n, $sent, $back, $late, $wrong) = (0) x 5;
sub turn { my $count = shift; my @out = map { frame($n++) } 1 .. $count;
    for (@out) { send($s, $_, 0) or die "send: $!\n"; $sent++ }
    for (@out) {
        my $r = ''; vec($r, fileno($s), 1) = 1;
        while (1) {
            if (!select(my $ready = $r, undef, undef, 1)) { $late++; last }
            my $from = recv($s, my $in, 2048, 0); defined $from or die "recv: $!\n";
            next if unpack('x10 C', $from) == 4;   # PACKET_OUTGOING: our own, on its way out
            if ($in eq $_) { $back++ } else { $wrong++ }
            last;
        }
    }
}
for (1 .. $singles) { turn(1); last if $late > 3 }
for (1 .. $bursts) { last if $late > 3; turn($burst) }
print "sent=$sent back=$back late=$late wrong=$wrong\n";
"""


class Loopback(Scenario):
    name = "loopback"
    title = "venet-loopback: every frame comes back at once, whole and in order"
    order = 35
    needs = ("negotiate",)

    def run(self, bench: Bench, cell: Cell) -> None:
        name = interface_of(bench, bench.bus.echo)
        count = SINGLES + BURSTS * BURST
        said = echoed(bench, name, SINGLES, BURSTS)
        cell.compare("frames", expected=f"sent={count} back={count} late=0 wrong=0", seen=said)


def echoed(bench: Bench, name: str, singles: int, bursts: int) -> str:
    """Send through one of the guest's interfaces, frames one by one and then bursts; what came of them."""
    # Nothing but our frames: no IPv6 chatter on this interface.
    bench.guest(f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6; ip link set {name} up")
    bench.guest.write("/dev/shm/echo.pl", ECHO.encode())
    words = [name, str(singles), str(bursts), str(BURST)]
    return bench.guest(["/usr/bin/perl", "/dev/shm/echo.pl", *words], seconds=120).strip()
