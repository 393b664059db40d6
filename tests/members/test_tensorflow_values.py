"""Single arrays of TensorFlow's graphs and checkpoints, and what loading says of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import CLASSES, TINY, tiny_network
from safetensors.torch import save_file

from ensemble_eval.errors import InputError
from ensemble_eval.members import loading
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import Imported
from ensemble_eval.members.importers import tensorflow
from ensemble_eval.members.importers.layouts import imported_googlenet


def _tensor(shape: tuple[int, ...], values: list[float]) -> SimpleNamespace:
    dimensions = SimpleNamespace(dim=[SimpleNamespace(size=size) for size in shape])
    stored = np.array(values, "<f4").tobytes()
    return SimpleNamespace(tensor_shape=dimensions, dtype=1, tensor_content=b"", float_val=stored)


@pytest.mark.parametrize(
    ("shape", "values", "expected"),
    [((2, 2), [1, 2, 3, 4], [[1, 2], [3, 4]]), ((4,), [1, 2], [1, 2, 2, 2]), ((1,), [], [0]), ((2,), [], [0, 0])],
)
def test_equal_values_at_the_end_are_written_once(
    shape: tuple[int, ...], values: list[float], expected: list[float]
) -> None:
    assert tensorflow._values(_tensor(shape, values), "x").tolist() == expected


@pytest.mark.parametrize(
    ("shape", "values"), [((1,), [1, 2]), ((2, 0), []), ((-1, -2), [1]), (((1 << 26) + 1,), [1])]
)
def test_values_that_no_array_has_are_refused(shape: tuple[int, ...], values: list[float]) -> None:
    with pytest.raises(InputError, match="x is damaged: "):
        tensorflow._values(_tensor(shape, values), "x")


def test_a_variable_of_a_checkpoint_is_float32(tmp_path: Path) -> None:
    (tmp_path / "a.data-00000-of-00001").write_bytes(np.arange(4, dtype="<f4").tobytes())
    table = {}
    for name, dtype in ((b"floats", 1), (b"integers", 3)):
        entry = tensorflow._messages()["Entry"]()
        entry.dtype, entry.offset, entry.size = dtype, 4, 8
        entry.shape.dim.add().size = 2
        table[name] = entry.SerializeToString()
    variable = tensorflow._of_the_second_format(tmp_path / "a.index", table, "weights")
    found = variable("floats")
    assert found is not None
    assert found.tolist() == [1, 2]
    assert variable("others") is None
    with pytest.raises(InputError, match="weights: integers is no float32 of one data file"):
        variable("integers")


def test_auxiliary_classifiers_of_our_architectures_are_left_out(tmp_path: Path) -> None:
    tensors = {**tiny_network().state_dict(), "aux1.fc2.weight": torch.zeros(2, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    member = Member("a", arch="googlenet", options={"width": TINY}, weights=tmp_path / "a.safetensors")
    network = loading.load_member(member, CLASSES.count)
    assert network.state_dict().keys() == tensors.keys() - {"aux1.fc2.weight"}


def test_only_outputs_that_the_weights_state_are_overruled(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    member = Member("a", arch="googlenet", weights=tmp_path / "a.safetensors", outputs="background-first")
    assert list(loading._overruled(member, Imported(format="x"))) == []
    assert list(loading._overruled(member, Imported(format="x", outputs="background-first"))) == []
    [said] = loading._overruled(member, Imported(format="x", outputs="a.txt"))
    assert said == "the outputs of its weights are a.txt; declared and used: background-first"


def test_a_published_accuracy_is_that_of_the_whole_network() -> None:
    """The tensors of a narrower one are of the same architecture."""
    stated = Imported(format="x", arch="googlenet", published="70%", tensors=tiny_network().state_dict())
    assert imported_googlenet(stated).published is None
