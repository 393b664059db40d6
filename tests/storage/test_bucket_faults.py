"""Bad input and failing stores: one sentence each, and nothing that was stored is lost."""

import functools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from buckets import Bucket
from builders import colour_classifier, encoded, picture
from conftest import Cli
from dataset_layouts import CLASSES, LAYOUTS, Labelled, validation_images
from s3_servers import free_port

from ensemble_eval import locations
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.locations import UnreachableError
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.store.parts import part_paths


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    return validation_images([encoded(picture(40 + seed, 40, seed), "JPEG") for seed in range(8)])


@pytest.fixture(scope="module")
def colours() -> Ensemble:
    return Ensemble([Member("a", predict=colour_classifier(0), fingerprint="a")], CLASSES)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed requests are repeated twice."""
    monkeypatch.setattr(locations, "_RETRIES", 2)
    monkeypatch.setattr(locations, "_FIRST_PAUSE_SECONDS", 0.01)


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
    assert run("s4://bucket/x", *there).startswith("s4://bucket/x is no URL that is known; give s3://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    locations._store_of.cache_clear()
    began = time.monotonic()
    message = run(missing, *there)
    assert message == f"the store of s3://{bucket.name} cannot be reached; check the endpoint, or try again later"
    assert time.monotonic() - began < 10


def test_a_store_that_cannot_be_reached_ends_with_1_which_a_launcher_may_try_again(
    cli: Cli, bucket: Bucket, ensemble: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del impatient
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    locations._store_of.cache_clear()
    assert cli("run", bucket.root, "--ensemble", ensemble).code == 1


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


def test_neither_the_package_nor_its_help_imports_obstore() -> None:
    code = "import sys, ensemble_eval, ensemble_eval.cli; print([m for m in sys.modules if 'obstore' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
    assert len(read_results(out).images) == 5


def test_a_process_that_uses_the_folder_keeps_others_from_starting_over(
    bucket: Bucket, images: list[Labelled], colours: Ensemble
) -> None:
    from ensemble_eval.errors import InputError
    from ensemble_eval.store.in_use import in_use

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
    with pytest.raises(UnreachableError, match=r"answers with the status 507 \(QuotaExceeded\)"):
        evaluate(colours, in_memory, out=out, **options)
    bucket.proxy.reset()
    assert len(part_paths(out / "predictions")) == 3
    assert evaluate(colours, in_memory, out=out, **options).rows[0].images == len(images)
