"""ONNX graphs as torch's networks give what ONNX Runtime gives."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders import CLASS_NAMES, encoded, picture
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_files import CLASSIFIER_INPUT, onnx_runtime_probabilities, some_crops, write_classifier

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import scores
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat

FILES = Path(__file__).parents[1] / "interop" / "files"
CPU = torch.device("cpu")


def _ours(member: Member, crops: torch.Tensor, outputs: int = 5) -> NDArray[np.float32]:
    return PredictMaker("torch", outputs, CPU, "float32").of_graph(member)(crops).numpy()


@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize("softmax", [True, False])
def test_a_graph_gives_onnx_runtimes_probabilities(tmp_path: Path, batch: int | str, softmax: bool) -> None:
    member = Member(
        "a", weights=write_classifier(tmp_path / "a.onnx", batch=batch, softmax=softmax), input=CLASSIFIER_INPUT
    )
    crops = some_crops(3)
    expected = onnx_runtime_probabilities(write_classifier(tmp_path / "b.onnx"), crops)
    np.testing.assert_allclose(_ours(member, crops), expected, atol=1e-5)


def test_a_stored_graph_of_torchs_exporter_gives_onnx_runtimes_probabilities() -> None:
    theirs = np.load(FILES / "onnx.npz")
    crops = torch.from_numpy(theirs["blocks"].repeat(8, axis=2).repeat(8, axis=3))
    unit = InputFormat(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    found = _ours(Member("a", weights=FILES / "onnx.onnx", input=unit), crops, 7)
    np.testing.assert_allclose(found, theirs["probabilities"], atol=1e-4)


def test_a_graph_with_channels_last_is_given_them_so(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 224, 224, 3]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["y"], ["x"], perm=[0, 3, 1, 2]))
    onnx.save(model, tmp_path / "last.onnx")
    crops = some_crops(2)
    found = _ours(Member("a", weights=tmp_path / "last.onnx", input=CLASSIFIER_INPUT), crops)
    np.testing.assert_allclose(found, onnx_runtime_probabilities(path, crops), atol=1e-5)


def test_weights_that_a_node_copies_as_torchs_older_exporter_writes_equal_ones(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Identity", ["copy"], ["again"]))
    model.graph.node.insert(0, helper.make_node("Identity", ["kernel"], ["copy"]))
    model.graph.node[2].input[1] = "again"
    model.graph.node.append(helper.make_node("Identity", ["probabilities"], ["outcome"]))
    model.graph.output[0].name = "outcome"
    onnx.save(model, tmp_path / "copied.onnx")
    crops = some_crops(2)
    found = _ours(Member("a", weights=tmp_path / "copied.onnx", input=CLASSIFIER_INPUT), crops)
    np.testing.assert_allclose(found, onnx_runtime_probabilities(path, crops), atol=1e-5)


def test_one_of_several_outputs_is_named(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", heads=2)
    with pytest.raises(InputError, match=r"has 2 outputs \(f, probabilities\); name one in its options"):
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT), some_crops(1))
    with pytest.raises(InputError, match="has no output 'g'; it has f, probabilities"):
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT, options={"output": "g"}), some_crops(1))
    named = Member("a", weights=path, input=CLASSIFIER_INPUT, options={"output": "probabilities"})
    expected = onnx_runtime_probabilities(path, some_crops(2))
    np.testing.assert_allclose(_ours(named, some_crops(2)), expected, atol=1e-5)


def test_what_cannot_be_converted_or_read_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read by onnx") as refusal:
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT), some_crops(1))
    assert "\n" not in str(refusal.value)
    model = onnx.load_model_from_string(data)
    model.graph.node[1].op_type = "Hardmax"
    onnx.save(model, path)
    with pytest.raises(
        InputError, match=r"onnx2torch cannot .*Hardmax.*; export it with opset_version=17,"
    ) as refusal:
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT), some_crops(1))
    assert "\n" not in str(refusal.value)


def test_tensors_in_other_files_are_not_read(tmp_path: Path) -> None:
    model = onnx.load(write_classifier(tmp_path / "a.onnx"))
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="tensors", size_threshold=0)
    with pytest.raises(InputError, match="keep tensors in other files, which are not read; save them in one"):
        _ours(Member("a", weights=tmp_path / "a.onnx", input=CLASSIFIER_INPUT), some_crops(1))


def test_tensors_of_nodes_in_other_files_are_not_read_either(tmp_path: Path) -> None:
    model = onnx.load(write_classifier(tmp_path / "a.onnx"))
    constant = helper.make_node("Constant", [], ["unused"], value=model.graph.initializer[0])
    tensor = constant.attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    model.graph.node.insert(0, constant)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="keep tensors in other files, which are not read; save them in one"):
        _ours(Member("a", weights=tmp_path / "a.onnx", input=CLASSIFIER_INPUT), some_crops(1))


def test_a_member_of_a_run_on_the_backend_torch(tmp_path: Path) -> None:
    member = Member("a", weights=write_classifier(tmp_path / "a.onnx"), input=CLASSIFIER_INPUT)
    images = [("a.png", 0, encoded(picture(300, 260)))]
    runs = [
        next(iter(scores(Ensemble([member], CLASS_NAMES[:5]), images, crops=10, device="cpu", backend=backend)))
        for backend in ("torch", "openvino")
    ]
    np.testing.assert_allclose(runs[0].mean_softmax[10], runs[1].mean_softmax[10], atol=1e-5)


def test_another_graph_runs_on_the_cpu_alone() -> None:
    member = Member("a", weights=FILES / "inception5h.pb")
    with pytest.raises(InputError, match=r'a is a graph of TensorFlow or TFLite, .*choose `device="cpu"`'):
        PredictMaker("torch", 9, torch.device("cuda", 0), "float32").of_graph(member)
