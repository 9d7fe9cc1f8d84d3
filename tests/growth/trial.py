"""Reads what is fed with ever larger inputs, each with CPU enough for growth in line alone.

Nothing compares times. Whoever reads 500,000 characters within four seconds of CPU is linear for
all that matters: the dearest takes half of one, and what grows with the square and takes 0.2 s for
100 kB takes five. Each is tried in a process of its own, which the kernel ends (SIGPROF) when that
is used up; so one that would run for years costs four seconds. Times only choose which inputs are
worth more: the dearest few of all that a small size was tried with.
"""

import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence

import msgspec

from tests.growth.inputs import made

SMALL, MIDDLE, LARGE = 10_000, 100_000, 500_000
CPU_S = 4.0
TO_CHOOSE, _DEAREST = 4_000, 2


class Growth(msgspec.Struct, frozen=True):
    """What reading cost at most, in ms; `guilty` shows the input that it did not get through.

    The costs of two sizes are those of the same input: that which is dearest when large.
    """

    name: str
    small_ms: float = 0.0
    middle_ms: float = 0.0
    large_ms: float = 0.0
    inputs: int = 0
    guilty: str = ""


def tried(
    name: str,
    read: Callable[[str], object],
    shapes: Sequence[tuple[str, str, str]],
    cpu_s: float = CPU_S,
) -> Growth:
    """How `read` grows with texts of these shapes; each large one has `cpu_s` seconds of CPU."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        try:
            costs = _fed(read, shapes, tell, cpu_s)
            os.write(tell, msgspec.json.encode(costs))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - what is read is a stranger's: nothing may be raised
            traceback.print_exc()
        finally:
            os._exit(3)
    os.close(tell)
    with os.fdopen(told, "rb") as lines:
        last = lines.read().splitlines()[-1]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        costs = msgspec.json.decode(last, type=tuple[float, float, float])
        return Growth(name, *costs, inputs=len(shapes))
    shape, size = msgspec.json.decode(last, type=tuple[int, int])
    head, repeated, _ = shapes[shape]
    how = "took too long" if status == -signal.SIGPROF else f"ended with {status}"
    guilty = f"{how} at {size:,} characters: {head[:80]!a} + many {repeated[:80]!a}"
    return Growth(name, inputs=len(shapes), guilty=guilty)


def _fed(
    read: Callable[[str], object],
    shapes: Sequence[tuple[str, str, str]],
    tell: int,
    cpu_s: float,
) -> tuple[float, float, float]:
    """What each size of the dearest input took, in ms; tells what it begins."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def cost(shape: int, size: int) -> float:
        text = made(shapes[shape], size)
        os.write(tell, b"[%d,%d]\n" % (shape, size))
        began = time.perf_counter()
        read(text)
        return (time.perf_counter() - began) * 1000

    signal.setitimer(signal.ITIMER_PROF, 2 * cpu_s)  # for all the small ones together
    chosen_by = [cost(shape, TO_CHOOSE) for shape in range(len(shapes))]
    costs: list[tuple[float, float, float]] = []
    for shape in sorted(range(len(shapes)), key=lambda shape: -chosen_by[shape])[:_DEAREST]:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        costs.append((cost(shape, SMALL), cost(shape, MIDDLE), cost(shape, LARGE)))
    return max(costs, key=lambda each: each[2])
