"""The batch script on a real Slurm, with a stand-in for the ranks: what it passes on, requeues and returns."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from local_slurm import Slurm, local_slurm, missing_reason

from ensemble_eval.jobs.batch import BatchJob
from ensemble_eval.jobs.slurm import Slurm as SlurmOptions

pytestmark = [pytest.mark.slurm, pytest.mark.processes, pytest.mark.slow]

# Notes its start, leaves with 143 on TERM, rank 1 a while later, and ends well once "go" is in its results.
STAND_IN = """\
out=$4
echo "start $SLURM_PROCID after ${SLURM_RESTART_COUNT:-0} restarts" >> "$out/notes"
trap 'sleep $SLURM_PROCID; echo "term $SLURM_PROCID" >> "$out/notes"; exit 143' TERM
[ "$SLURM_PROCID" = 1 ] && [ -e "$out/fail" ] && exit 1
for _ in $(seq 600); do [ -e "$out/go" ] && exit 0; sleep 0.1; done
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if reason := missing_reason():
        pytest.skip(reason)
    with local_slurm() as running:
        yield running


def start(
    slurm: Slurm,
    folder: Path,
    outs: Sequence[Path],
    partition: str | None = None,
    setup: Sequence[str] = (),
    sbatch: Sequence[str] = (),
) -> str:
    """Start a job of two ranks; give its number."""
    (folder / "rank.sh").write_text(STAND_IN)
    for out in outs:
        out.mkdir(exist_ok=True)
    ensemble, *others = (Path(f"{out.name}.toml") for out in outs)
    job = BatchJob(ranks=2, cpus_per_rank=1, time="0:10:00", job_name="test", setup=tuple(setup))
    options = SlurmOptions(partition=partition, array=tuple(others), sbatch=tuple(sbatch))
    command = ["bash", str(folder / "rank.sh")]
    script = options.text(job, command, ensemble, outs[0].parent if others else outs[0])
    (folder / "job.sh").write_text(script)
    return slurm.command("sbatch", folder / "job.sh").split()[-1]


def await_notes(out: Path, count: int) -> list[str]:
    """Wait until the ranks have noted that much."""
    end = time.monotonic() + 60
    while len(notes := (out / "notes").read_text().splitlines() if (out / "notes").exists() else []) < count:
        assert time.monotonic() < end, notes
        time.sleep(0.1)
    return notes


def told_to_stop(out: Path) -> int:
    return (out / "notes").read_text().count("term")


def assert_stopped_and_requeued(slurm: Slurm, number: str, out: Path) -> None:
    """Both ranks were told to stop, started once more with the job, and came to their end."""
    notes = await_notes(out, 6)
    (out / "go").touch()
    job = slurm.wait(number, "COMPLETED", "FAILED", "CANCELLED")
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert sorted(notes[2:4]) == ["term 0", "term 1"]
    assert sorted(notes[4:]) == ["start 0 after 1 restarts", "start 1 after 1 restarts"]


def test_usr1_ahead_of_the_limit_stops_the_ranks_and_requeues(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    number = start(slurm, tmp_path, [out])
    await_notes(out, 2)
    slurm.command("scancel", "--batch", "--signal=USR1", number)
    assert_stopped_and_requeued(slurm, number, out)


def test_a_job_preempted_with_a_grace_time_goes_back_to_the_queue(slurm: Slurm, tmp_path: Path) -> None:
    """Slurm tells the ranks, and would requeue the job at the end of the grace only: then it is over by itself."""
    out = tmp_path / "out"
    number = start(slurm, tmp_path, [out], "low")
    await_notes(out, 2)
    (tmp_path / "urgent.sh").write_text("#!/bin/bash\nsleep 1\n")
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", f"--output={tmp_path}/urgent.log")
    slurm.command("sbatch", *urgent, tmp_path / "urgent.sh")
    assert_stopped_and_requeued(slurm, number, out)


def test_a_cancelled_job_stops_its_ranks_and_stays_away(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    number = start(slurm, tmp_path, [out])
    await_notes(out, 2)
    slurm.command("scancel", number)
    job = slurm.wait(number, "COMPLETED", "FAILED", "CANCELLED")
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    assert {"term 0", "term 1"} <= set(await_notes(out, 4))


def test_a_failing_rank_fails_the_job(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "fail").touch()
    number = start(slurm, tmp_path, [out])
    await_notes(out, 2)
    time.sleep(1)
    # The other one goes on to its end.
    assert len(await_notes(out, 2)) == 2
    (out / "go").touch()
    assert slurm.wait(number, "COMPLETED", "FAILED", "CANCELLED")["JobState"] == "FAILED"
    assert len(await_notes(out, 2)) == 2


def test_ranks_that_are_killed_fail_the_job(slurm: Slurm, tmp_path: Path) -> None:
    """Without a word, as the kernel does when memory runs out."""
    number = start(slurm, tmp_path, [tmp_path / "out"])
    await_notes(tmp_path / "out", 2)
    slurm.command("scancel", "--signal=KILL", f"{number}.0")
    assert slurm.wait(number, "COMPLETED", "FAILED", "CANCELLED")["JobState"] == "FAILED"


def test_setup_commands_run_once_before_the_ranks_which_see_what_they_set(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    setup = [
        f"cd '{tmp_path}'; echo \"in $PWD\" >> out/notes # and 'no more",
        'note() { echo "set $1" >> out/notes; }; note "$((1 + 1))"',
        "export SLURM_RESTART_COUNT=many",
    ]
    number = start(slurm, tmp_path, [out], setup=setup)
    notes = await_notes(out, 4)
    (out / "go").touch()
    assert slurm.wait(number, "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
    assert notes[:2] == [f"in {tmp_path}", "set 2"]
    assert sorted(notes[2:]) == ["start 0 after many restarts", "start 1 after many restarts"]


@pytest.mark.parametrize("command", ["false", "echo 'unclosed", "no-such-command"])
def test_a_setup_command_that_fails_fails_the_job_before_any_rank_starts(
    slurm: Slurm, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    number = start(slurm, tmp_path, [out], setup=[command, "touch never"])
    assert slurm.wait(number, "COMPLETED", "FAILED")["JobState"] == "FAILED"
    assert not (out / "notes").exists()


def test_options_that_are_passed_on_reach_slurm_as_they_were_given(slurm: Slurm, tmp_path: Path) -> None:
    out = tmp_path / "out"
    passed = ["--comment=a 'b' \"c\" # d; $(touch x)", "--exclude=n1", "--hold", f"--chdir={tmp_path}"]
    number = start(slurm, tmp_path, [out], sbatch=passed)
    job = slurm.job(number)
    assert (job["JobState"], job["ExcNodeList"], job["WorkDir"]) == ("PENDING", "n1", str(tmp_path))
    shown = slurm.command("squeue", "--noheader", "--jobs", number, "--format=%k").strip()
    assert shown == "a 'b' \"c\" # d; $(touch x)"
    slurm.command("scontrol", "release", number)
    await_notes(out, 2)
    (out / "go").touch()
    assert slurm.wait(number, "COMPLETED", "FAILED")["NodeList"] == "n0"
    assert not (tmp_path / "x").exists()


def test_an_array_has_a_task_for_each_ensemble(slurm: Slurm, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    number = start(slurm, tmp_path, outs)
    for task, out in enumerate(outs):
        await_notes(out, 2)
        (out / "go").touch()
        assert slurm.wait(f"{number}_{task}", "COMPLETED", "FAILED")["JobState"] == "COMPLETED"


def test_a_task_of_an_array_that_is_out_of_time_leaves_the_others_alone(slurm: Slurm, tmp_path: Path) -> None:
    """One task of an array has the number of the whole array."""
    outs = [tmp_path / "a", tmp_path / "b"]
    number = start(slurm, tmp_path, outs)
    for out in outs:
        await_notes(out, 2)
    for task, (out, other) in enumerate(zip(outs, outs[::-1], strict=True)):
        stopped = told_to_stop(other)
        slurm.command("scancel", "--batch", "--signal=USR1", f"{number}_{task}")
        assert len(await_notes(out, 4)) == 4
        slurm.wait(f"{number}_{task}", "PENDING")
        time.sleep(0.5)
        assert told_to_stop(other) == stopped
    for task, out in enumerate(outs):
        assert sorted(await_notes(out, 6)[4:]) == ["start 0 after 1 restarts", "start 1 after 1 restarts"]
        (out / "go").touch()
        assert slurm.wait(f"{number}_{task}", "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
