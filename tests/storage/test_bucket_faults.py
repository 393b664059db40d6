"""Bad input and failing stores: one sentence each, and nothing that was stored is lost."""

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from buckets import Bucket
from builders import colour_classifier, encoded, picture
from conftest import Cli
from dataset_layouts import CLASSES, LAYOUTS, Labelled, validation_images
from s3_servers import free_port

from ensemble_eval import files, stores
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.evaluation.opening import open_folder, sources_of
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.settings import Settings
from ensemble_eval.store.in_use import in_use
from ensemble_eval.store.parts import part_paths
from ensemble_eval.stores import DeniedError, UnreachableError


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    return validation_images([encoded(picture(40 + seed, 40, seed), "JPEG") for seed in range(8)])


@pytest.fixture(scope="module")
def colours() -> Ensemble:
    return Ensemble([Member("a", predict=colour_classifier(0), fingerprint="a")], CLASSES)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed requests are repeated twice."""
    monkeypatch.setattr(stores, "_RETRIES", 2)
    monkeypatch.setattr(stores, "_FIRST_PAUSE_SECONDS", 0.01)


def _refused(cli: Cli, *arguments: object) -> str:
    """The message of a command that cannot run, without its marks."""
    done = cli(*arguments, "--backend", "torch")
    assert done.code in (1, 2)
    [line] = [line for line in done.err.splitlines() if line]
    return line.removeprefix("error: ")


@pytest.mark.usefixtures("impatient")
def test_wrong_urls_are_refused_with_one_sentence(
    cli: Cli, bucket: Bucket, ensemble: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functools.partial(_refused, cli, "run")
    there = ("--ensemble", ensemble, "--out", bucket.root / "out")
    nowhere = "s3://no-such-bucket/x"
    no_bucket = "there is no bucket s3://no-such-bucket; check its name and the endpoint"
    assert run(nowhere, *there) == no_bucket
    assert run(dataset, "--ensemble", ensemble, "--out", nowhere) == no_bucket
    assert run(dataset, "--ensemble", f"{nowhere}.toml", "--out", "out") == no_bucket
    missing = bucket.root / "missing"
    assert run(missing, *there) == f"the data set {missing} does not exist; give the folder that holds the images"
    assert run(dataset, *there, "--labels", missing) == f"{missing} does not exist; check the URL"
    assert run(dataset, *there, "--blacklist", missing) == f"{missing} does not exist; check the URL"
    assert f"{missing} holds no results yet" in cli("report", missing).err
    assert run("s4://bucket/x", *there).startswith("s4://bucket/x is not a known kind of URL; give s3://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    stores.store_of.cache_clear()
    began = time.monotonic()
    message = run(missing, *there)
    assert message == f"the store of s3://{bucket.name} cannot be reached; check the endpoint, or try again later"
    assert time.monotonic() - began < 10


def test_a_store_that_cannot_be_reached_ends_with_1_which_a_launcher_may_try_again(
    cli: Cli, bucket: Bucket, ensemble: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del impatient
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    stores.store_of.cache_clear()
    assert cli("run", bucket.root, "--ensemble", ensemble).code == 1


def test_without_credentials_and_with_expired_ones_one_sentence_says_so(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.proxy.fails, bucket.proxy.failure = (lambda method, path: bool(method and path)), (403, "ExpiredToken")
    denied = rf"the store denies access to {bucket.root} \(ExpiredToken\); renew the credentials$"
    with pytest.raises(DeniedError, match=denied):
        bucket.root.read_bytes()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # As on any machine that is not in a cloud.
    monkeypatch.setattr(stores, "_METADATA_SERVICE", ("127.0.0.1", free_port()))
    stores.store_of.cache_clear()
    with pytest.raises(DeniedError, match="no credentials were found; set those of the store, such as AWS_ACCESS"):
        bucket.root.read_bytes()


def test_without_the_extra_a_url_says_what_to_install(dataset: Path) -> None:
    code = f"""
import sys
sys.modules["obstore"] = None
from ensemble_eval.datasets.opening import open_dataset
print(len(open_dataset({str(dataset)!r}, "ant bee cat dog eel fox gnu".split()).items))
try:
    open_dataset("s3://bucket/val", ["ant"])
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "6",
        "MissingExtraError a URL needs obstore, which is not installed; run: pip install 'ensemble-eval[cloud]'",
    ]


def test_neither_the_package_nor_its_help_imports_what_buckets_need() -> None:
    code = """
import sys, ensemble_eval
from ensemble_eval.cli import run_command_line
sys.argv = ["ensemble-eval", "run", "--help"]
run_command_line()
print([name for name in sys.modules if "obstore" in name or name.endswith(".stores")], file=sys.stderr)
"""
    # Options that stand in the environment are checked before the help is shown.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENSEMBLE_EVAL_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "Usage:" in done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.usefixtures("impatient")
def test_what_was_stored_survives_an_outage(
    bucket: Bucket, tmp_path: Path, images: list[Labelled], colours: Ensemble
) -> None:
    given = LAYOUTS["class_folders"](tmp_path / "data", images)
    root = bucket.upload(given.root, "val")
    options: dict[str, Any] = {"crops": 1, "device": "cpu", "backend": "torch", "workers": 1, "save_every": 0}
    options["batch_size"] = 1
    dataset = open_dataset(root, CLASSES)
    evaluate(colours, dataset, out=tmp_path / "whole", **options)
    images_read = 0

    def fails_later(method: str, path: str) -> bool:
        nonlocal images_read
        images_read += method == "GET" and path.endswith(".JPEG")
        return images_read > 4 and path.endswith(".JPEG")

    bucket.proxy.fails = fails_later
    out = bucket.root / "out"
    with pytest.raises(UnreachableError, match="check the endpoint, or try again later"):
        evaluate(colours, dataset, out=out, **options)
    bucket.proxy.reset()
    stored = len(part_paths(out / "predictions"))
    assert stored
    # No image was listed as unreadable because of it.
    assert read_results(out).unreadable == {}
    evaluate(colours, dataset, out=out, **options)
    assert (out / "table3.csv").read_bytes() == (tmp_path / "whole" / "table3.csv").read_bytes()


@pytest.mark.usefixtures("impatient")
def test_whatever_cannot_be_reached_another_start_may_succeed(
    cli: Cli, bucket: Bucket, dataset: Path, ensemble: Path
) -> None:
    """Exit code 2 would end all pods of a Job, as bad input does."""
    data, nets, out = bucket.upload(dataset, "val"), bucket.upload(ensemble.parent, "nets"), bucket.root / "out"
    run = ("run", data, "--ensemble", nets / ensemble.name, "--crops", 1, "--out", out, "--batch-size", 8)
    assert cli(*run).code == 0
    for part in (".safetensors", "_key.json", "part-", "run.json", "_bucket-"):
        stored = bucket.objects()
        bucket.proxy.fails = lambda method, path, part=part: part in path  # noqa: ARG005 (two arguments)
        # One of many processes that ask too often.
        bucket.proxy.failure = (429, "TooManyRequests") if part == "part-" else (503, "SlowDown")
        left = cli(*run)
        assert (left.code, part) == (1, part), left.err
        assert left.err.count("check the endpoint, or try again later") == 1
        bucket.proxy.reset()
        assert {name: stored[name] for name in stored if name in bucket.objects()} == stored
    assert cli(*run).code == 0


def test_some_failures_are_not_noticed(
    bucket: Bucket, tmp_path: Path, images: list[Labelled], colours: Ensemble
) -> None:
    given = LAYOUTS["class_folders"](tmp_path / "data", images)
    root = bucket.upload(given.root, "val")
    options: dict[str, Any] = {"crops": 1, "device": "cpu", "backend": "torch", "save_every": 0}
    evaluate(colours, given.root, out=tmp_path / "whole", **options)
    bucket.proxy.failing, bucket.proxy.slow, bucket.proxy.delay = 0.1, 0.1, 0.2
    evaluate(colours, root, out=bucket.root / "out", **options)
    bucket.proxy.reset()
    written = (bucket.root / "out" / "table3.csv").read_bytes()
    assert written == (tmp_path / "whole" / "table3.csv").read_bytes()


def test_fresh_removes_only_what_is_ours(bucket: Bucket, images: list[Labelled], colours: Ensemble) -> None:
    in_memory = [(image.name, image.label, image.data) for image in images]
    out = bucket.root / "out"
    options: dict[str, Any] = {"crops": 1, "device": "cpu", "backend": "torch"}
    evaluate(colours, in_memory, out=out, **options)
    (out / "notes.txt").put(b"mine")
    (out / "predictions" / "notes.txt").put(b"mine")
    before = bucket.objects()
    evaluate(colours, in_memory[:5], out=out, fresh=True, **options)
    after = bucket.objects()
    assert after["out/notes.txt"] == after["out/predictions/notes.txt"] == b"mine"
    gone = before.keys() - after.keys()
    assert gone
    assert all("/part-" in key or "/_images-" in key for key in gone)
    assert before["out/predictions/_key.json"] != after["out/predictions/_key.json"]
    assert len(read_results(out).images) == 5


def test_of_two_jobs_that_start_in_one_folder_at_once_one_is_refused(
    bucket: Bucket, images: list[Labelled], colours: Ensemble
) -> None:
    bucket.proxy.one_write_at_a_time = bucket.server.name == "moto"
    in_memory = [(image.name, image.label, image.data) for image in images]
    together = threading.Barrier(2)

    def begin(number: int) -> str:
        settings = Settings(out=bucket.root / "out", crops=1, device="cpu", backend="torch")
        sources = sources_of(colours, Dataset.of(in_memory[number:]), settings)
        folder = open_folder(settings, sources)
        folder.refuse_foreign()
        together.wait()
        try:
            folder.open(fresh=False)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        won, lost = sorted(threads.map(begin, range(2)))
    assert won == ""
    assert "belongs to another run (dataset" in lost


def test_a_process_that_uses_the_folder_keeps_others_from_starting_over(
    bucket: Bucket, images: list[Labelled], colours: Ensemble
) -> None:
    out = bucket.root / "out"
    in_memory = [(image.name, image.label, image.data) for image in images]
    with (
        in_use(out, alone=False),
        pytest.raises(InputError, match="would discard what others are writing to s3://"),
    ):
        evaluate(colours, in_memory, out=out, crops=1, device="cpu", backend="torch", fresh=True)
    assert bucket.objects() == {}
    evaluate(colours, in_memory, out=out, crops=1, device="cpu", backend="torch", fresh=True)


def test_a_full_bucket_ends_the_run_and_keeps_what_is_there(
    bucket: Bucket, images: list[Labelled], colours: Ensemble, impatient: None
) -> None:
    del impatient
    in_memory = [(image.name, image.label, image.data) for image in images]
    out = bucket.root / "out"
    options: dict[str, Any] = {"crops": 1, "device": "cpu", "backend": "torch", "save_every": 0}
    parts = 0

    def is_full(method: str, path: str) -> bool:
        nonlocal parts
        parts += method == "PUT" and "/part-" in path
        return method == "PUT" and parts > 3

    bucket.proxy.fails, bucket.proxy.failure = is_full, (507, "QuotaExceeded")
    with pytest.raises(UnreachableError, match=r"answers with status 507 \(QuotaExceeded\)"):
        evaluate(colours, in_memory, out=out, **options)
    bucket.proxy.reset()
    assert len(part_paths(out / "predictions")) == 3
    assert evaluate(colours, in_memory, out=out, **options).rows[0].images == len(images)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that serves `tmp_path`, also by ranges."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = tmp_path / self.path.lstrip("/")
            data = path.read_bytes() if path.is_file() else b""
            wanted = self.headers.get("Range", "")
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = data[int(first or 0) : int(last or len(data)) + 1]
            self.send_response(404 if not path.is_file() else 206 if wanted else 200)
            self.send_header("ETag", f'"{len(data)}"')
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 02:00:00 GMT")
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else part)

        do_HEAD = do_GET  # noqa: N815 (its name in the library)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("layout", ["tar_of_folders", "tar_with_table", "webdataset", "parquet"])
def test_single_files_and_patterns_are_read_from_a_web_server(
    web: str, tmp_path: Path, layout: str, images: list[Labelled]
) -> None:
    given = LAYOUTS[layout](tmp_path / "data", images)
    local = open_dataset(given.root, CLASSES, given.labels)
    labels = None if given.labels is None else f"{web}/{given.labels.relative_to(tmp_path)}"
    files = sorted((tmp_path / "data").rglob("*.parquet")) or sorted((tmp_path / "data").rglob("*.tar"))
    root = given.root if given.root.is_file() else files[0].parent / _braces([each.name for each in files])
    found = open_dataset(f"{web}/{root.relative_to(tmp_path)}", CLASSES, labels)
    assert [(item.id, item.label, item.read()) for item in found.items] == [
        (item.id, item.label, item.read()) for item in local.items
    ]


def test_a_folder_on_a_web_server_is_refused(web: str, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match=r"http://.*/val does not exist; check the URL"):
        open_dataset(f"{web}/val", CLASSES)


def _braces(names: list[str]) -> str:
    """A pattern for names that differ in one digit."""
    place = next(index for index in range(len(names[0])) if len({name[index] for name in names}) > 1)
    first, last = names[0][place], names[-1][place]
    return f"{names[0][:place]}{{{first}..{last}}}{names[0][place + 1 :]}"


def test_a_part_whose_bytes_have_changed_is_set_aside_and_computed_again(
    bucket: Bucket, images: list[Labelled], colours: Ensemble
) -> None:
    in_memory = [(image.name, image.label, image.data) for image in images]
    out = bucket.root / "out"
    options: dict[str, Any] = {"crops": 1, "device": "cpu", "backend": "torch", "save_every": 0, "batch_size": 1}
    evaluate(colours, in_memory, out=out, **options)
    before = read_results(out).predictions()
    part = part_paths(out / "predictions")[0]
    data = part.read_bytes()
    files.write_atomically(part, data[:-100] + b"?" + data[-99:])
    with pytest.warns(UserWarning, match=f"{part.name} had changed since it was written"):
        evaluate(colours, in_memory, out=out, **options)
    assert [path.name for path in (out / "predictions").glob("_damaged-*")] == [f"_damaged-{part.name}"]
    pd.testing.assert_frame_equal(read_results(out).predictions(), before, check_exact=True)
