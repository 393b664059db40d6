"""What was made once and can be made again, kept in a folder of the user's between runs."""

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
    """Where conversions are kept: `ENSEMBLE_EVAL_CACHE`, or `ensemble-eval` in the user's folder of caches.

    That folder is `XDG_CACHE_HOME`, or `.cache` in the home folder, as the XDG Base Directory Specification says.
    None where there is no home.

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

    Nothing depends on it: what is missing, damaged or cannot be read is made anew, and where nothing can be
    written, nothing is kept. Any number of processes may read and write at once.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """What was kept under a key, to the byte, or None."""
        try:
            data = read_regular(self._path(key))
        except OSError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes under a key, if the folder takes them."""
        # A home that is read-only or full does not stop a run.
        with contextlib.suppress(InputError), atomic_path(self._path(key), durable=False) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()
