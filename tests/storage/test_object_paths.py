import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buckets import Bucket

from ensemble_eval import files, stores
from ensemble_eval.errors import InputError
from ensemble_eval.locations import ObjectPath, local_copy, location
from ensemble_eval.patterns import expanded
from ensemble_eval.store import record
from ensemble_eval.stores import DeniedError, Meta, MissingObjectError, ObjectError, ObjectExistsError, Tree


@pytest.mark.parametrize(
    "url", ["s3://bucket/val", "gs://bucket/val/", "az://container/val", "https://host:81/val"]
)
def test_a_url_is_taken_apart_like_a_path(url: str) -> None:
    path = location(url) / "a" / "b.tar.gz"
    assert isinstance(path, ObjectPath)
    assert str(path) == f"{url.rstrip('/')}/a/b.tar.gz"
    assert path.key == "val/a/b.tar.gz"
    assert (path.name, path.stem, path.suffix) == ("b.tar.gz", "b.tar", ".gz")
    assert path.parent.parent == location(url)
    assert path.relative_to(location(url)).as_posix() == "a/b.tar.gz"
    assert str(path.with_name("c")) == f"{url.rstrip('/')}/a/c"


def test_paths_and_urls_replace_what_stands_before_them() -> None:
    url = location("s3://bucket/models")
    assert str(Path("folder") / url) == "s3://bucket/models"
    assert url / "gs://other/x" == location("gs://other/x")
    assert url / "/data/x" == Path("/data/x")
    assert location("file:///data/a%20b") == Path("/data/a b")
    assert location("val/s3") == Path("val/s3")


def test_a_folder_above_is_named_by_two_dots_as_in_files() -> None:
    manifests = location("s3://bucket/ensembles/manifests")
    assert manifests / "../checkpoints/a..b" == location("s3://bucket/ensembles/checkpoints/a..b")
    assert location("s3://bucket/ensembles/../val") == location("s3://bucket/val")
    with pytest.raises(
        InputError, match=r"^ensembles/manifests/(\.\./){3}x leads out of the bucket s3://bucket; "
    ):
        _ = manifests / "../../../x"
    with pytest.raises(InputError, match="leads out of the bucket"):
        location("s3://bucket/../other/x")


@pytest.mark.parametrize("text", ["hf://datasets/x", "s3://", "ftp://host/x"])
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a known kind of URL; give s3://"):
        location(text)


def test_what_needs_a_local_file_is_refused_with_a_sentence() -> None:
    for use in (os.stat, open, os.listdir, os.fspath):
        with pytest.raises(InputError, match=r"^s3://bucket/x is in a bucket, but .*; copy it to this machine$"):
            use(location("s3://bucket/x"))
    with pytest.raises(InputError, match="copy it to this machine"):
        location("s3://bucket/x").write_text("")


def test_a_listing_answers_without_requests() -> None:
    root = ObjectPath("s3://bucket/val")
    # Some programs write an empty object for a folder.
    objects = {"val/a": Meta(0, "0", 0.0), "val/a/x.png": Meta(7, "7", 0.0), "val/b": Meta(1, "1", 0.0)}
    # Their keys stand between those of the folder and behind them.
    objects |= {"val/a-1": Meta(1, "1", 0.0), "val/a/y": Meta(1, "1", 0.0), "val/a0": Meta(1, "1", 0.0)}
    root.tree = Tree("val", objects, {"val/b": {0: b"!"}})
    assert [path.name for path in root.iterdir()] == ["a", "a-1", "a0", "b"]
    assert [path.name for path in (root / "a").iterdir()] == ["x.png", "y"]
    assert (root / "a").is_dir()
    assert not (root / "a").is_file()
    assert (root / "b").is_file()
    assert not (root / "c").exists()
    assert (root / "a" / "x.png").stat().st_size == 7
    assert [str(path) for path in expanded(root / "*" / "*.png")] == ["s3://bucket/val/a/x.png"]
    assert (root / "b").open("rb").read() == b"!"


def test_objects_are_written_read_listed_and_removed(bucket: Bucket) -> None:
    folder = bucket.root / "out"
    assert not folder.exists()
    for name in ("one", "ü n%41#?.txt", "below/two"):
        files.write_atomically(folder / name, name.encode())
    assert sorted(path.name for path in folder.iterdir()) == ["below", "one", "ü n%41#?.txt"]
    assert [path.name for path in folder.glob("o*")] == ["one"]
    assert [path.name for path in folder.rglob("two")] == ["two"]
    assert folder.is_dir()
    assert (folder / "below").is_dir()
    assert not (folder / "below").is_file()
    assert (folder / "ü n%41#?.txt").read_text() == "ü n%41#?.txt"
    with files.atomic_path(folder / "three") as temporary:
        temporary.write_bytes(b"3")
    assert (folder / "three").read_bytes() == b"3"
    with pytest.raises(InputError, match="cannot be written"), files.atomic_path(folder / "four") as temporary:
        (temporary / "no folder").write_bytes(b"")
    assert not (folder / "four").exists()
    (folder / "one").replace(folder / "five")
    (folder / "below" / "two").unlink()
    (folder / "below" / "two").unlink(missing_ok=True)
    assert {key.removeprefix("out/") for key in bucket.objects()} == {"five", "three", "ü n%41#?.txt"}


def test_keys_may_have_any_printable_characters(bucket: Bucket) -> None:
    for name in ("a b", "é+%20#?&=~", "[x]{y}*", "..a"):
        (bucket.root / name).put(name.encode())
    assert {path.name: path.read_bytes() for path in bucket.root.iterdir()} == {
        path.name: path.name.encode() for path in bucket.root.rglob("*")
    }
    assert sorted(bucket.objects()) == sorted(("a b", "é+%20#?&=~", "[x]{y}*", "..a"))


def test_files_are_read_by_ranges(bucket: Bucket) -> None:
    data = os.urandom(3 << 20)
    bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/x", Body=data)
    bucket.proxy.reset()
    with files.open_regular(bucket.root / "x") as file:
        file.seek(-10, io.SEEK_END)
        assert file.read(20) == data[-10:]
        file.seek(1000)
        assert file.read(7) == data[1000:1007]
        assert file.read(7) == data[1007:1014]
    assert bucket.proxy.counts == {"HEAD": 1, "GET": 2}
    assert bucket.proxy.bytes < 2 << 20
    assert files.sha256_of(bucket.root / "x") == hashlib.sha256(data).hexdigest()
    copy = local_copy(bucket.root / "x")
    assert copy.read_bytes() == data
    assert local_copy(bucket.root / "x") == copy


def test_copies_are_removed_when_the_process_ends(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/a.safetensors", Body=b"weights")
    code = f"from ensemble_eval.locations import *; print(local_copy(location('{bucket.root}/a.safetensors')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("a.safetensors")
    assert not Path(done.stdout.strip()).parents[2].exists()


def test_of_many_clients_one_creates_an_object(bucket: Bucket) -> None:
    def create(number: int) -> bool:
        return files.create(bucket.root / "index", f"{number}".encode())

    # moto's server looks and then writes, in several threads, so that two of them may both write.
    bucket.proxy.one_write_at_a_time = bucket.server.name == "moto"
    for _ in range(5):
        with ThreadPoolExecutor(32) as threads:
            created = list(threads.map(create, range(32)))
        assert sum(created) == 1
        assert (bucket.root / "index").read_text() == f"{created.index(True)}"
        (bucket.root / "index").unlink()
    assert files.create(bucket.root / "index", b"again")
    with pytest.raises(ObjectExistsError):
        (bucket.root / "index").put(b"", create=True)


def test_a_store_that_lets_everyone_overwrite_is_refused(bucket: Bucket) -> None:
    files.require_writable(bucket.root)
    if bucket.server.name == "seaweedfs":
        pytest.skip("a proxy cannot take the condition away: the client signs it, and SeaweedFS checks that")
    bucket.proxy.ignores_conditions = True
    with pytest.raises(InputError, match="ignores If-None-Match, so processes could overwrite"):
        files.require_writable(bucket.root)
    assert bucket.objects() == {}


def test_a_replaced_object_is_noticed_between_two_reads(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/x", Body=bytes(2 << 20))
    with files.open_regular(bucket.root / "x", buffering=0) as file:
        assert file.read(1) == b"\0"
        bucket.client.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/x", Body=b"1" * (2 << 20))
        file.seek(-1, io.SEEK_END)
        with pytest.raises(ObjectError, match="has changed since it was listed"):
            file.read(1)


def test_errors_are_one_sentence_and_of_the_kind_of_local_ones(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"/x does not exist; check the URL$"):
        (bucket.root / "x").read_bytes()
    with pytest.raises(ObjectError, match=r"b cannot be used: .*illegal character"):
        (bucket.root / "a\x07b").read_bytes()
    for use in (
        lambda: list(location("s3://no-such-bucket/x").iterdir()),
        location("s3://no-such-bucket/x").is_dir,
    ):
        with pytest.raises(MissingObjectError, match="there is no bucket s3://no-such-bucket; check its name"):
            use()
    if bucket.server.name == "moto":
        return  # which checks no signatures
    for name, value, code in (
        ("AWS_SECRET_ACCESS_KEY", "wrong", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "InvalidAccessKeyId"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            patch.setattr(stores, "store_of", stores.store_of.__wrapped__)
            with pytest.raises(DeniedError, match=rf"the store denies access to .* \({code}\); check the cred"):
                (bucket.root / "x").read_bytes()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
    monkeypatch.setattr(stores, "store_of", stores.store_of.__wrapped__)
    with pytest.raises(InputError, match=r"the store denies access to .*AccessDenied"):
        files.require_writable(bucket.root)


def test_an_output_folder_whose_objects_come_and_go_is_not_taken_for_a_file(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes write and remove objects while one asks."""
    answers = iter([True, False])
    monkeypatch.setattr(ObjectPath, "is_dir", lambda _: next(answers))
    record.refuse_file(bucket.root / "out")
    (bucket.root / "file").put(b"x")
    with pytest.raises(InputError, match="is a file; choose a folder"):
        record.refuse_file(bucket.root / "file")
