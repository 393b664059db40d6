import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.files import (
    atomic_path,
    csv_text,
    open_regular,
    read_regular,
    require_could_be_written,
    sha256_of,
    write_atomically,
)


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    write_atomically(target, b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"ne")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_written_file_is_readable_for_whom_the_umask_allows(tmp_path: Path) -> None:
    plain, atomic = tmp_path / "plain", tmp_path / "deep" / "atomic"
    plain.write_bytes(b"")
    write_atomically(atomic, b"")
    assert stat.S_IMODE(atomic.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"file/below cannot be written \(.*\); free space or choose another"):
        write_atomically(tmp_path / "file" / "below", b"")


@pytest.mark.parametrize("folder", ["", "there", "not/there/yet"])
def test_asking_whether_files_could_be_written_leaves_nothing_behind(tmp_path: Path, folder: str) -> None:
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    require_could_be_written(tmp_path / folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    # /dev/full stands in for the disk: every write to it ends with ENOSPC.
    with (
        pytest.raises(InputError, match="No space left on device"),
        atomic_path(tmp_path / "part"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"abc" * 1000)
    assert sha256_of(tmp_path / "weights") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link") == b"content"
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for path, kind in (("pipe", "a named pipe"), ("socket", "a socket"), ("/dev/zero", "a device")):
        with pytest.raises(OSError, match=f"it is {kind}, not a file"):
            read_regular(Path(path))
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_file_that_becomes_a_pipe_before_it_is_opened_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    was = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda _path: was)
    with pytest.raises(OSError, match="it is a named pipe, not a file"):
        open_regular(path)


def test_csv_quotes_what_needs_it_and_ends_lines_alike_everywhere() -> None:
    assert csv_text(["a", "b"], [["1", 'x,"y"'], ["", "z"]]) == 'a,b\n1,"x,""y"""\n,z\n'
