"""Single arrays in the files of Keras and of Inception-v1: what is read, and what is too large or elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.members.importers import inception_v1, keras
from ensemble_eval.members.importers.protocol_buffers import floats

h5py: Any = pytest.importorskip("h5py")
THREE = np.array([0.5, 1, 2], np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        yield opened


def _array(dataset: Any) -> NDArray[Any] | None:
    return keras._array(h5py, dataset, "weights: x")


def test_floats_of_any_width_are_read(file: Any) -> None:
    file["single"], file["half"] = THREE, THREE.astype(np.float16)
    for name in ("single", "half"):
        found = _array(file[name])
        assert found is not None
        assert found.tolist() == THREE.tolist()
    assert _array(file.create_group("group")) is None


def test_arrays_that_lie_in_another_file_are_refused(file: Any) -> None:
    file.create_dataset("external", (3,), "f4", external=[("other.bin", 0, 12)])
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("virtual", layout)
    for name in ("external", "virtual"):
        with pytest.raises(InputError, match="weights: x lies in another file, which is not followed"):
            _array(file[name])


def test_what_is_no_array_of_floats_or_more_than_256_mib_is_refused(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file["integers"] = np.arange(3)
    file["nothing"] = h5py.Empty("f4")
    # Its zeros take no space.
    file.create_dataset("large", ((1 << 26) + 1,), "f4", chunks=(1 << 16,))
    for name in ("integers", "nothing", "large"):
        with pytest.raises(InputError, match="and Inception-v1 has floats there"):
            _array(file[name])
    file["three"] = THREE
    monkeypatch.setattr(keras, "_MAX_ARRAY_BYTES", 12)
    assert _array(file["three"]) is not None
    monkeypatch.setattr(keras, "_MAX_ARRAY_BYTES", 11)
    with pytest.raises(InputError, match="and Inception-v1 has floats there"):
        _array(file["three"])


def test_all_variables_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception_v1, "_MAX_BYTES", 24)
    variables = inception_v1._bounded({"x": THREE}.get, "weights")
    assert variables("y") is None
    for _ in range(2):
        assert variables("x") is THREE
    with pytest.raises(InputError, match="weights hold more than 0 MiB of numbers"):
        variables("x")


def test_a_variable_has_floats_of_as_many_dimensions_as_it_should() -> None:
    arrays: dict[str, Any] = {"x": THREE, "integers": np.arange(3), "nothing": THREE[:0], "square": THREE[:, None]}
    assert inception_v1._tensor(arrays.get, "x", 1, "weights").tolist() == THREE.tolist()
    for name in ("integers", "nothing", "square"):
        with pytest.raises(InputError, match=f"weights: {name} holds .* and Inception-v1 has floats there"):
            inception_v1._tensor(arrays.get, name, 1, "weights")
    with pytest.raises(InputError, match="weights lack the variable y"):
        inception_v1._tensor(arrays.get, "y", 1, "weights")


def test_bytes_of_an_array_fill_its_shape() -> None:
    data = np.arange(6, dtype="<f4").tobytes()
    assert floats(data, (2, 3), "x").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert floats(data[:4], (1,) * 8, "x").shape == (1,) * 8
    for wrong, shape in ((data, (2, 2)), (data, (-2, -3)), (data, (2, 3, 0)), (b"", (0, 3)), (data[:4], (1,) * 9)):
        with pytest.raises(InputError, match=rf"x is damaged: {len(wrong)} bytes for the shape"):
            floats(wrong, shape, "x")
