"""A run that is told to stop by a signal, and the command that continues it."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import tomli_w
import torch
from builders import CLASS_NAMES, randomise, write_dataset
from conftest import Cli
from held_network import HeldNetwork
from safetensors.torch import save_file

from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.manifest import member_table

TESTS = Path(__file__).parents[1]


def _arguments(folder: Path, out: str) -> list[str]:
    """A run of one held member over ten images, two crops a batch, prepared in `folder`."""
    manifest = folder / "ensemble.toml"
    if not manifest.exists():
        write_dataset(folder / "val", [(60 + index, 50) for index in range(10)])
        weights = folder / "a.safetensors"
        save_file(randomise(HeldNetwork(str(folder)), seed=1).state_dict(), weights)
        (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))
        held = Member(
            "a", weights=weights, arch="python:held_network:HeldNetwork", options={"folder": str(folder)}
        )
        row = member_table(held, weights.name)
        manifest.write_text(tomli_w.dumps({"name": "held", "classes": "classes.txt", "members": [row]}))
    return [
        *("run", str(folder / "val"), "--ensemble", str(manifest), "--out", str(folder / out)),
        *("--crops", "1", "--batch-size", "2", "--device", "cpu", "--trust-python"),
    ]


def _predictions(out: Path) -> str:
    table = pd.read_parquet(out / "predictions").sort_values(["image", "crops", "member"], ignore_index=True)
    text: str = table.to_json(double_precision=15)
    return text


def _start_and_hold(folder: Path, arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a run and wait until its third batch is in hand, where it stays while `folder/hold` exists."""
    (folder / "hold").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", "from ensemble_eval.cli import main; main()", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "waiting").exists() and process.poll() is None:
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_is_done_and_the_printed_command_continues(
    tmp_path: Path, cli: Cli, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "a folder"  # with a space, so that the command must be quoted
    folder.mkdir()
    arguments = _arguments(folder, "interrupted")
    with _start_and_hold(folder, [*arguments, "--fresh"]) as process:
        process.send_signal(number)
        time.sleep(0.5)  # the signal waits for the batch in hand
        (folder / "hold").unlink()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"error: stopped by {number.name}; what was finished is kept, continue with: ")
    out = folder / "interrupted"
    assert not (out / "table3.csv").exists()
    assert len(pd.read_parquet(out / "predictions")) == 6  # three batches of two images with one crop

    program, *continued = shlex.split(last.partition("continue with: ")[2])
    assert (program, continued) == ("ensemble-eval", arguments)
    finished = cli(*continued)
    assert finished.code == 0
    assert "continuing: 6 images were done before" in finished.err

    assert cli(*_arguments(folder, "uninterrupted")).code == 0
    other = folder / "uninterrupted"
    assert (out / "table3.csv").read_bytes() == (other / "table3.csv").read_bytes()
    assert _predictions(out) == _predictions(other)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("ranks", [[], ["--ranks", "2"]], ids=["one", "two"])
def test_a_second_sigint_leaves_at_once_and_what_was_written_is_whole(
    tmp_path: Path, cli: Cli, ranks: list[str]
) -> None:
    arguments = [*_arguments(tmp_path, "interrupted"), "--save-every", "0"]
    with _start_and_hold(tmp_path, [*arguments, *ranks]) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None  # it waits for the batch in hand, which never ends
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=4) == 130
        process.communicate(timeout=60)  # a rank that was only just starting ends itself
    (tmp_path / "hold").unlink()
    done = len(pd.read_parquet(tmp_path / "interrupted" / "predictions"))
    assert 0 < done <= 8  # of each rank's two batches before
    finished = cli(*arguments)
    assert finished.code == 0
    assert "had changed since it was written" not in finished.err
    assert f"continuing: {done} images were done before" in finished.err
    assert cli(*_arguments(tmp_path, "uninterrupted")).code == 0
    assert _predictions(tmp_path / "interrupted") == _predictions(tmp_path / "uninterrupted")


@pytest.mark.slow
@pytest.mark.processes
def test_a_fresh_start_is_refused_while_another_run_is_at_work_and_not_after_it_was_killed(
    tmp_path: Path, cli: Cli
) -> None:
    arguments = [*_arguments(tmp_path, "used"), "--save-every", "0"]
    out = tmp_path / "used"
    with _start_and_hold(tmp_path, [*arguments, "--ranks", "2"]) as process:
        before = set((out / "predictions").glob("part-*"))
        # A fresh start that is not refused would wait as the first run does.
        release = threading.Timer(60, (tmp_path / "hold").unlink)
        release.start()
        refused = cli(*arguments, "--fresh")
        release.cancel()
        assert refused.code == 2
        assert f"--fresh would discard what others are writing to {out}: process {process.pid} on " in refused.err
        assert before
        assert before <= set((out / "predictions").glob("part-*"))
        process.kill()
    (tmp_path / "hold").unlink()
    # On a machine with much to do, workers take a moment to end with their supervisor.
    until = time.monotonic() + 60
    while (again := cli(*arguments, "--fresh")).code == 2 and time.monotonic() < until:
        assert "--fresh would discard what others are writing to" in again.err
    assert again.code == 0
    assert "continuing" not in again.err
    assert not list(out.glob(".in-use-*"))


SLOW_DRIVE = """
import sys, time
from ensemble_eval.cli import main
from ensemble_eval.datasets import items
def stall(_):
    sys.stderr.write("stalled\\n")
    time.sleep(600)
setattr(items.FileItem, {"opening": "digest", "evaluating": "read"}[sys.argv.pop(1)], stall)
main()
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("at", ["opening", "evaluating"])
def test_a_drive_that_does_not_answer_does_not_keep_a_run_that_is_told_to_stop(tmp_path: Path, at: str) -> None:
    command = [sys.executable, "-c", SLOW_DRIVE, at, *_arguments(tmp_path, "out")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "stalled" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
        assert "continue with: ensemble-eval run" in process.stderr.read()


def test_the_held_networks_outputs_differ_from_image_to_image() -> None:
    network = randomise(HeldNetwork("."), seed=1)
    with torch.inference_mode():
        outputs = network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(outputs[0], outputs[1])


# Each sends this process a signal in another part of Python's end.
_SENDERS = {
    "while a thread is waited for": """
import threading, time
def leave(code, leave=sys.exit):
    threading.Thread(target=lambda: (time.sleep(0.5), send(), time.sleep(60))).start()
    leave(code)
sys.exit = leave
""",
    "among the last functions": "import atexit; atexit.register(send)",
    "when modules are taken down": """
class Last:
    def __del__(self, send=send):
        send()
sys.modules["last"] = Last()
""",
}


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", _SENDERS)
def test_a_signal_in_the_end_of_python_does_not_change_the_exit_code(when: str, number: signal.Signals) -> None:
    program = f"""
import os, signal, sys
def send(kill=os.kill, own=os.getpid(), write=os.write):
    write(1, b"sent")
    kill(own, {int(number)})
{_SENDERS[when]}
from ensemble_eval.cli import main
main()
"""
    began = time.monotonic()
    words = [sys.executable, "-c", program, "status", "/there/is/nothing"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "sent"
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - began < 30
