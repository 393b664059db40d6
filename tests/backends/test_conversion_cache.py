from pathlib import Path

import pytest

from ensemble_eval.backends.conversion_cache import ConversionCache, cache_folder


def test_what_is_kept_is_found_again_by_its_key_alone(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path / "made" / "when needed")
    assert cache.get("a") is None
    cache.put("a", b"one")
    cache.put("b", b"two")
    cache.put("a", b"three")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"three", b"two", None)


def test_what_is_not_to_the_byte_what_was_kept_is_not_given(tmp_path: Path) -> None:
    cache = ConversionCache(tmp_path)
    cache.put("a", b"content")
    [path] = tmp_path.iterdir()
    sound = path.read_bytes()
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        assert cache.get("a") is None
        path.write_bytes(sound[:length] + bytes([sound[length] ^ 1]) + sound[length + 1 :])
        assert cache.get("a") is None
    path.write_bytes(sound)
    assert cache.get("a") == b"content"


def test_a_folder_that_takes_nothing_and_a_file_that_is_none_are_as_if_nothing_were_kept(tmp_path: Path) -> None:
    nowhere = ConversionCache(Path("/proc/cache"))
    nowhere.put("a", b"content")
    assert nowhere.get("a") is None
    cache = ConversionCache(tmp_path)
    cache.put("a", b"content")
    [path] = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    assert cache.get("a") is None
    cache.put("a", b"content")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"ENSEMBLE_EVAL_CACHE": "here", "XDG_CACHE_HOME": "/x"}, Path("here")),
        ({"ENSEMBLE_EVAL_CACHE": "", "XDG_CACHE_HOME": "/x"}, Path("/x/ensemble-eval")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache" / "ensemble-eval"),
        ({}, Path.home() / ".cache" / "ensemble-eval"),
    ],
)
def test_the_folder_is_the_variables_or_the_users(environment: dict[str, str], folder: Path) -> None:
    assert cache_folder(environment) == folder
