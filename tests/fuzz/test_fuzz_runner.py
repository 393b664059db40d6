"""The runner of `make fuzz` finds each kind of fault, and goes on behind it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from faulty_readers import TARGETS
from runner import REFUSED, run

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("wordy", "says 'it is\\ndamaged', which is not one line"),
        ("raising", "raises KeyError: 'damaged'"),
        ("dying", "crashes: the process ended with 3"),
        ("hanging", "hangs: no answer in 0.5 seconds"),
        ("starting", "raises AssertionError: it did os.system (b'true',)"),
        ("filling", "memory: "),
    ],
)
def test_a_fault_is_found_in_every_file(name: str, fault: str) -> None:
    target = next(each for each in TARGETS if each.name == name)
    told, faults = run("faulty_readers", target, seed=1)
    assert not told
    assert [each.number for each in faults] == [0, 1]
    assert all(each.what.startswith(fault) for each in faults), faults


def test_a_refusal_in_one_line_is_none() -> None:
    told, faults = run("faulty_readers", TARGETS[0], seed=1)
    assert told == {REFUSED: 2}
    assert not faults
