"""Who is at work in a folder, told by files that processes keep there; other machines are files made by hand."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.store import in_use as module
from ensemble_eval.store.in_use import in_use

AT_WORK = """
import sys
from pathlib import Path
from ensemble_eval.store.in_use import in_use
with in_use(Path(sys.argv[1]), alone=False):
    print("there", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", AT_WORK, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        try:
            yield process
        finally:
            process.kill()


def begin(folder: Path, *, alone: bool = True) -> None:
    with in_use(folder, alone=alone):
        pass


@pytest.mark.slow
@pytest.mark.processes
def test_a_process_is_named_while_it_lives_also_if_it_is_stopped_and_forgotten_once_it_was_killed(
    tmp_path: Path,
) -> None:
    with another(tmp_path) as process:
        named = f"process {process.pid} on {socket.gethostname()} \\(since 2.*\\); stop it or choose another"
        with pytest.raises(InputError, match=named):
            begin(tmp_path)
        # It does not touch its file then.
        process.send_signal(signal.SIGSTOP)
        [own] = tmp_path.iterdir()
        os.utime(own, (0, 0))
        with pytest.raises(InputError, match=named):
            begin(tmp_path)
        process.kill()
        # Nobody has asked for its exit code yet: it is a zombie.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        begin(tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.processes
def test_several_share_a_folder_and_leave_nothing(tmp_path: Path) -> None:
    with another(tmp_path) as first, another(tmp_path) as second:
        begin(tmp_path, alone=False)
        # Which of them came first is told to the second.
        with pytest.raises(InputError, match=f"process ({first.pid}|{second.pid}) on .* and 1 more; stop it"):
            begin(tmp_path)
        for process in (first, second):
            process.communicate("", timeout=60)
    assert list(tmp_path.iterdir()) == []
    begin(tmp_path)


def test_another_thread_counts_as_another_process_does(tmp_path: Path) -> None:
    with in_use(tmp_path, alone=True), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        begin(tmp_path)
    begin(tmp_path)


def _elsewhere(folder: Path, seconds_ago: float, **changes: object) -> Path:
    with in_use(folder, alone=False):
        [own] = folder.iterdir()
        record = json.loads(own.read_text())
        now = own.stat().st_mtime
    path = folder / ".in-use-elsewhere.json"
    path.write_text(json.dumps({**record, "host": "node7", "machine": "another", **changes}))
    os.utime(path, (now - seconds_ago, now - seconds_ago))
    return path


def test_a_process_of_another_machine_is_alive_for_90_seconds_after_its_last_sign(tmp_path: Path) -> None:
    path = _elsewhere(tmp_path, seconds_ago=60)
    with pytest.raises(InputError, match=r"on node7 .*or wait 90 s if it was killed"):
        begin(tmp_path)
    assert path.exists()
    path.unlink()
    path = _elsewhere(tmp_path, seconds_ago=100)
    begin(tmp_path)
    assert not path.exists()


def test_an_id_that_another_process_of_this_machine_has_now_counts_for_nothing(tmp_path: Path) -> None:
    _elsewhere(tmp_path, 0, machine=module._machine(), began="1")
    begin(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_such_file_is_passed_over(tmp_path: Path) -> None:
    for number, text in enumerate(["", "[]", "{}", '{"host": 1}']):
        (tmp_path / f".in-use-{number}.json").write_text(text)
    begin(tmp_path)


def test_a_process_touches_its_file_while_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched = threading.Event()
    monkeypatch.setattr(module, "_TOUCH_EVERY_SECONDS", 0.01)
    with in_use(tmp_path, alone=False):
        monkeypatch.setattr(os, "utime", lambda _: touched.set())
        assert touched.wait(60)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this machine does not say when processes began")
def test_a_process_says_when_it_began(tmp_path: Path) -> None:
    with in_use(tmp_path, alone=False):
        [own] = tmp_path.iterdir()
        began = json.loads(own.read_text())["began"]
    # The 22nd field, of which the second may hold spaces.
    assert began == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[22 - 3]


@pytest.mark.processes
def test_where_nobody_says_when_processes_began_one_that_ended_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_began", lambda _: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path = _elsewhere(tmp_path, 0, machine=module._machine(), process=process.pid)
        with pytest.raises(InputError, match=f"process {process.pid} on"):
            begin(tmp_path)
        process.communicate(b"\n")
        # Asking whether it is there has not ended it.
        assert process.returncode == 0
    assert path.exists()
    begin(tmp_path)
    assert not path.exists()
