from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from loadtests import cpu

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"x")
print("reaped", flush=True)
input()
"""
SPIN = "import time\nwhile time.process_time() < 0.05: pass\nprint('spun', flush=True)\ninput()"


@dataclass(frozen=True, slots=True)
class Family:
    """A process and its child."""

    process: subprocess.Popen[str]
    child: int

    def step(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


def spawn(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def family() -> Iterator[Family]:
    with spawn(PARENT) as process:
        assert process.stdout
        yield Family(process, int(process.stdout.readline()))
        process.kill()


def test_a_tree_holds_the_living_descendants(family: Family) -> None:
    assert cpu.tree(family.process.pid) == [family.process.pid, family.child]
    assert {family.process.pid, family.child} < set(cpu.tree(os.getpid()))
    family.step()
    assert cpu.tree(family.process.pid) == [family.process.pid]


def test_reaped_children_still_count(family: Family) -> None:
    before_s = cpu.cpu_s(family.process.pid)
    family.step()
    assert cpu.cpu_s(family.process.pid) >= before_s


def test_cpu_seconds_are_those_the_process_used() -> None:
    with spawn(SPIN) as process:
        assert process.stdout
        process.stdout.readline()
        assert cpu.cpu_s(process.pid) >= 0.03
        process.kill()


def test_memory_is_shared_out() -> None:
    found = cpu.memory(os.getpid())
    assert found.rss > 1_000_000
    assert found.pss is None or 0 < found.pss <= found.rss * 1.1


def test_a_dead_process_costs_nothing() -> None:
    with spawn("") as process:
        process.wait()
    assert cpu.tree(process.pid) == []
    assert cpu.cpu_s(process.pid) == 0.0
    assert cpu.memory(process.pid).rss == 0


def test_names_with_spaces_and_brackets_are_read() -> None:
    code = "open('/proc/self/comm', 'w').write('a) (b c'); print('named', flush=True); input()"
    with spawn(code) as process:
        assert process.stdout
        process.stdout.readline()
        assert process.pid in cpu.tree(os.getpid())
        process.kill()
