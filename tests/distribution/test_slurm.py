"""Jobs on a real Slurm with two emulated nodes."""

import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Cli
from faults import Setup
from local_slurm import Slurm, local_slurm, missing_reason
from outcome import outcome_bytes

pytest_plugins = ["whole_run"]
pytestmark = [pytest.mark.slurm, pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Two emulated nodes with two pretend GPUs each."""
    if reason := missing_reason():
        pytest.skip(reason)
    with local_slurm() as running:
        yield running


Submit = Callable[..., str]


@pytest.fixture
def submit(slurm: Slurm, setup: Setup, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Submit the evaluation; give the job's number."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)

    def submitted(out: Path, *options: object, ranks: int = 2) -> str:
        done = cli("submit", *setup.command(out, ranks)[4:], "--cpus-per-rank", 1, *options)
        match = re.search(r"Submitted batch job (\d+)", done.out)
        assert match, done.err
        return match[1]

    return submitted


def log(out: Path) -> str:
    return "".join(path.read_text() for path in sorted(out.glob("*.log")))


def await_parts(out: Path, count: int) -> None:
    """Wait until a job has stored that many parts."""
    end = time.monotonic() + 120
    while len(list((out / "predictions").glob("part-*"))) < count:
        assert time.monotonic() < end, log(out)
        time.sleep(0.05)


def test_two_nodes_with_two_ranks_each_give_the_same_bytes(
    slurm: Slurm, submit: Submit, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    number = submit(tmp_path, "--nodes", 2)
    job = slurm.wait(number, "COMPLETED", "FAILED")
    assert job["JobState"] == "COMPLETED", log(tmp_path)
    assert job["NumNodes"] == "2"
    assert job["NumTasks"] == "4"
    assert "on 4 ranks" in log(tmp_path)
    assert log(tmp_path).count("written to") == 1
    assert re.search(r"^24/24 images, \d+ crops/s, 0:00:00 left$", log(tmp_path), re.MULTILINE)
    assert outcome_bytes(tmp_path) == expected


def test_a_requeued_job_continues(
    slurm: Slurm, submit: Submit, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    """Slurm sends USR1 ahead of the limit; the script passes it on as TERM and goes back to the queue."""
    number = submit(tmp_path)
    await_parts(tmp_path, 2)
    slurm.command("scancel", "--batch", "--signal=USR1", number)
    time.sleep(1)
    job = slurm.wait(number, "COMPLETED", "FAILED", "CANCELLED")
    assert job["JobState"] == "COMPLETED", log(tmp_path)
    assert job["Restarts"] == "1"
    assert log(tmp_path).count("start the same job again to continue") == 1
    assert outcome_bytes(tmp_path) == expected


def test_an_array_has_a_task_for_each_ensemble(
    slurm: Slurm, setup: Setup, submit: Submit, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    other = setup.ensemble.with_name("other.toml")
    other.write_text(setup.ensemble.read_text())
    number = submit(tmp_path, "--array", other, ranks=1)
    for task in (0, 1):
        assert slurm.wait(f"{number}_{task}", "COMPLETED", "FAILED")["JobState"] == "COMPLETED", log(tmp_path)
    assert outcome_bytes(tmp_path / "ensemble") == expected
    assert outcome_bytes(tmp_path / "other") == expected


def test_the_script_asks_for_what_the_options_say(setup: Setup, slurm: Slurm, cli: Cli, tmp_path: Path) -> None:
    job = "--nodes 2 --gpus-per-node 2 --time 0:30:00 --partition test --account me --dry-run"
    script = cli("submit", *setup.command(tmp_path, ranks=2)[4:], *shlex.split(job)).out
    assert sys.executable in script
    (tmp_path / "job.sh").write_text(script.replace("#SBATCH --account=me\n", ""))
    slurm.command("sbatch", "--test-only", tmp_path / "job.sh")
