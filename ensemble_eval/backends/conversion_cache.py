"""Conversions of networks, stored between runs in a cache folder of the user."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import atomic_path, read_regular
from ensemble_eval.settings import CACHE_VARIABLE

_DIGEST_BYTES = 32


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder for conversions: `ENSEMBLE_EVAL_CACHE`, or `ensemble-eval` in the user's cache folder.

    The cache folder is `XDG_CACHE_HOME`, or `.cache` in the home folder, as in the XDG Base Directory
    Specification. None if there is no home folder.

    Example:
        >>> cache_folder({"XDG_CACHE_HOME": "/var/cache/me"}).as_posix()
        '/var/cache/me/ensemble-eval'
    """
    if named := environment.get(CACHE_VARIABLE):
        return Path(named)
    caches = Path(environment.get("XDG_CACHE_HOME", ""))
    try:
        # The specification has relative paths ignored.
        return (caches if caches.is_absolute() else Path.home() / ".cache") / "ensemble-eval"
    except RuntimeError:
        return None


class ConversionCache:
    """Bytes by key, in files that carry their own checksum.

    Nothing depends on the cache: what is missing, damaged or unreadable is converted again. If the folder cannot
    be written, nothing is stored. Any number of processes may read and write at once.

    Args:
        folder: created when something is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """The bytes that were stored under a key, or None."""
        try:
            data = read_regular(self._path(key))
        except OSError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Store bytes under a key, if the folder can be written."""
        # A home folder that is read-only or full does not stop a run.
        with contextlib.suppress(InputError), atomic_path(self._path(key), durable=False) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()
