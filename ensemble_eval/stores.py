"""Requests to object stores through obstore: settings, retries, errors, and listings.

Credentials, region and endpoint are those of obstore's environment variables. obstore is imported with the first
request.
"""

import contextlib
import errno
import functools
import os
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ensemble_eval.errors import EnsembleEvalError, InputError, first_line, needing_extra

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Recorded reads of one data set; see `Tree`.
_MAX_RECORDED_BYTES = 1 << 28
# A server that restarts is waited for, and a wrong address is reported within half a minute.
_RETRIES, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 10, 0.25, 8
_TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "15m"}
_STATUS, _CODE = re.compile(r"status code: (\d{3})"), re.compile(r"(?:<Code>|\(code: )(\w+)")
# What to set, by the first characters of a URL.
_ADVICE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true",
}
# Variables that give obstore credentials, without which it asks the machine's own service.
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID AWS_SKIP_SIGNATURE AWS_WEB_IDENTITY_TOKEN_FILE AWS_METADATA_ENDPOINT "
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS GOOGLE_SERVICE_ACCOUNT GOOGLE_SERVICE_ACCOUNT_PATH "
    "GOOGLE_SERVICE_ACCOUNT_KEY GOOGLE_BEARER_TOKEN GOOGLE_SKIP_SIGNATURE GCE_METADATA_HOST GCE_METADATA_IP",
}
_GCLOUD_FILE = ".config/gcloud/application_default_credentials.json"
_METADATA_SERVICE, _METADATA_SECONDS = ("169.254.169.254", 80), 2.0
_FROM_METADATA = re.compile(r"169\.254\.169\.254|metadata\.google|/latest/(api|meta-data)")


class ObjectError(InputError, OSError):
    """A request to a store failed. It is an OSError too, for code that expects those of local files."""

    number = errno.EIO

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = self.number


class MissingObjectError(ObjectError, FileNotFoundError):
    """There is no such object or bucket."""

    number = errno.ENOENT


class ObjectExistsError(ObjectError, FileExistsError):
    """There is such an object already."""

    number = errno.EEXIST


class DeniedError(ObjectError, PermissionError):
    """The store denies access."""

    number = errno.EACCES


class UnreachableError(EnsembleEvalError):
    """The store does not answer, or fails again and again; another start may succeed with the same input.

    It is neither bad input nor an OSError, so no code takes it for a property of the object.
    """


class Meta(NamedTuple):
    """What a store says about an object.

    Attributes:
        size: In bytes.
        version: Its ETag, which changes with its content; the time of its last change if it has none.
        modified: The time of its last change, in seconds since 1970.
    """

    size: int
    version: str
    modified: float


class Tree:
    """The objects below a folder as they were listed at one time, and the bytes that were read to open them.

    The bytes are kept so that other processes can open the same data set without requests.

    Attributes:
        objects: The listed objects, by key.
        reads: The bytes that were read, by key and offset.
        recording: Whether further reads are kept.
    """

    def __init__(self, prefix: str, objects: dict[str, Meta], reads: dict[str, dict[int, bytes]]) -> None:
        self._prefix, self.objects, self.reads = prefix, objects, reads
        self.recording, self._left = True, _MAX_RECORDED_BYTES
        self._keys = sorted(objects)
        # Some programs write an empty object for each folder.
        for key in [key for key, meta in objects.items() if not meta.size and self.children(key)]:
            del objects[key]

    def covers(self, key: str) -> bool:
        """Return whether the listing would have an object of this key."""
        return not self._prefix or key == self._prefix or key.startswith(f"{self._prefix}/")

    def children(self, folder: str) -> Collection[str]:
        """Return the names in a folder; empty if there is no such folder."""
        above, found = f"{folder}/" if folder else "", dict[str, None]()
        place = bisect_left(self._keys, above)
        while place < len(self._keys) and self._keys[place].startswith(above):
            name, slash, _ = self._keys[place][len(above) :].partition("/")
            found[name] = None
            # Behind all that is in a folder: "0" is the character after "/".
            place = bisect_left(self._keys, f"{above}{name}0", place) if slash else place + 1
        return found

    def recorded(self, key: str, offset: int, size: int) -> bytes | None:
        """Return the bytes of an earlier read, or None."""
        data = self.reads.get(key, {}).get(offset, b"")
        return data[:size] if len(data) >= size else None

    def record(self, key: str, offset: int, data: bytes) -> None:
        """Keep the bytes of a read, up to a limit for all reads."""
        if self.recording and self._left >= len(data):
            self._left -= len(data)
            self.reads.setdefault(key, {})[offset] = data


@functools.cache
def obstore() -> Any:
    """Import obstore.

    Raises:
        MissingExtraError: It is not installed.
    """
    with needing_extra("cloud", "a URL"):
        import obstore
        import obstore.store
    return obstore


@functools.cache
def store_of(url: str) -> "ObjectStore":
    """Return the store of a bucket, as the environment was when it was used first; no request is made yet.

    Raises:
        InputError: The environment has no credentials, or settings that do not fit.
    """
    variables = _CREDENTIALS.get(url[:2], "").split()
    has_file = url.startswith("gs") and Path(os.environ.get("HOME", "/"), _GCLOUD_FILE).exists()
    if variables and not has_file and not any(map(os.environ.get, variables)):
        _require_metadata_service(url)
    from datetime import timedelta

    pauses = {
        "init_backoff": timedelta(seconds=_FIRST_PAUSE_SECONDS),
        "max_backoff": timedelta(seconds=_LONGEST_PAUSE_SECONDS),
    }
    retries = {"max_retries": _RETRIES, "backoff": {**pauses, "base": 3}, "retry_timeout": timedelta(minutes=3)}
    # An endpoint with http:// is meant that way.
    options = {**_TIMEOUTS, "allow_http": True}
    with translated(url):
        store: ObjectStore = obstore().store.from_url(url, client_options=options, retry_config=retries)
    return store


def _require_metadata_service(url: str) -> None:
    """Refuse at once, instead of waiting minutes for a service that only machines of a cloud have."""
    # Imported here, like the others in functions, because every command imports this module.
    import socket

    try:
        socket.create_connection(_METADATA_SERVICE, _METADATA_SECONDS).close()
    except OSError as error:
        raise _without_credentials(url) from error


def _without_credentials(path: object) -> DeniedError:
    return DeniedError(
        f"{path} cannot be read or written: no credentials were found; set those of the store, such as "
        f"{_ADVICE[str(path)[:2]]} for a public bucket"
    )


def meta_of(entry: Any) -> Meta:
    """Convert obstore's description of an object."""
    tag, modified = entry["e_tag"], entry["last_modified"].timestamp()
    # Some stores quote it where they describe one object, but not in listings.
    version = tag if tag and tag.endswith('"') else f'"{tag}"' if tag else f"changed {modified}"
    return Meta(entry["size"], version, modified)


@contextlib.contextmanager
def translated(path: object) -> Iterator[None]:
    """Convert obstore's errors to an `ObjectError` with one sentence."""
    try:
        yield
    except (EnsembleEvalError, GeneratorExit):
        raise
    except Exception as error:
        # A ValueError is a key that no object can have.
        known = isinstance(error, FileNotFoundError | ValueError)
        if not known and not type(error).__module__.startswith("obstore"):
            raise
        _refuse(path, error)


def _refuse(path: object, error: Exception) -> NoReturn:
    text, kind = str(error), type(error).__name__
    status, code = _first(_STATUS, text), _first(_CODE, text)
    bucket, said = "/".join(str(path).split("/")[:3]), f" ({code})" if code not in ("", status) else ""
    is_silent = any(words in text for words in ("sending request", "decoding response", "timed out"))
    if _FROM_METADATA.search(text) and str(path)[:2] in _ADVICE:
        raise _without_credentials(path) from error
    if code == "NoSuchBucket":
        raise MissingObjectError(f"there is no bucket {bucket}; check its name and the endpoint") from error
    if isinstance(error, FileNotFoundError):
        raise MissingObjectError(f"{path} does not exist; check the URL") from error
    if kind == "AlreadyExistsError":
        raise ObjectExistsError(f"{path} already exists; choose another URL") from error
    if kind == "PreconditionError":
        raise ObjectError(f"{path} has changed since it was listed; run with `fresh=True`") from error
    if (
        kind in ("PermissionDeniedError", "UnauthenticatedError")
        or status in ("401", "403")
        or code == "AccessDenied"
    ):
        remedy = "renew the credentials" if "Expired" in code else "check the credentials and their permissions"
        raise DeniedError(f"the store denies access to {path}{said}; {remedy}") from error
    # The two others are those of a store that is asked too often, or too slowly.
    if status.startswith("5") or status in ("408", "429") or is_silent:
        why = f"answers with status {status}{said}" if status else "cannot be reached"
        raise UnreachableError(f"the store of {bucket} {why}; check the endpoint, or try again later") from error
    raise ObjectError(f"{path} cannot be used: {first_line(error)[:300]}{said}") from error


def _first(pattern: "re.Pattern[str]", text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
