"""Graphs of other frameworks run as they are; ONNX Runtime, TensorFlow and TFLite computed what is expected."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders import CLASS_NAMES, encoded
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_files import CLASSIFIER_INPUT, onnx_runtime_probabilities, some_crops, write_classifier
from PIL import Image

from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.api import scores
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat

pytest.importorskip("openvino")
from ensemble_eval.backends.openvino import graph_predict
from ensemble_eval.members.preprocessing import SharedPreprocessing

FILES = Path(__file__).parents[1] / "interop" / "files"
CPU = torch.device("cpu")


def _ours(member: Member, crops: torch.Tensor, outputs: int = 5) -> NDArray[np.float32]:
    predict = graph_predict(member, SharedPreprocessing(member.input, CPU), outputs, "float32", CROP_SIZE)
    return predict(crops).numpy()


@pytest.mark.parametrize("batch", ["N", 1])
def test_an_onnx_graph_gives_onnx_runtimes_probabilities(tmp_path: Path, batch: int | str) -> None:
    path = write_classifier(tmp_path / "a.onnx", batch=batch)
    member = Member("a", weights=path, input=CLASSIFIER_INPUT)
    assert member.arch == "graph"
    crops = some_crops(3)
    np.testing.assert_allclose(_ours(member, crops), onnx_runtime_probabilities(path, crops), atol=1e-5)


def test_a_graph_that_runs_batches_of_one_size_alone_is_tried_with_such_batches(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", batch=1)
    model = onnx.load(path)
    [flatten] = [node for node in model.graph.node if node.op_type == "Flatten"]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 8]), "one"))
    flatten.CopyFrom(helper.make_node("Reshape", [flatten.input[0], "one"], flatten.output))
    onnx.save(model, path)
    member, crops = Member("a", weights=path, input=CLASSIFIER_INPUT), some_crops(3)
    predict = graph_predict(member, SharedPreprocessing(member.input, CPU), 5, "float32", CROP_SIZE)
    predict.try_batch(crops)
    np.testing.assert_allclose(predict(crops).numpy(), onnx_runtime_probabilities(path, crops), atol=1e-5)


def test_logits_get_their_softmax(tmp_path: Path) -> None:
    member = Member("a", weights=write_classifier(tmp_path / "a.onnx", softmax=False), input=CLASSIFIER_INPUT)
    crops = some_crops(2)
    expected = onnx_runtime_probabilities(write_classifier(tmp_path / "b.onnx"), crops)
    np.testing.assert_allclose(_ours(member, crops), expected, atol=1e-5)


def test_one_of_several_outputs_is_named(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", heads=2)
    with pytest.raises(InputError, match=r"has 2 outputs \(f, probabilities\); name one in its options"):
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT), some_crops(1))
    with pytest.raises(InputError, match="has no output 'g'"):
        _ours(Member("a", weights=path, input=CLASSIFIER_INPUT, options={"output": "g"}), some_crops(1))
    named = Member("a", weights=path, input=CLASSIFIER_INPUT, options={"output": "probabilities"})
    np.testing.assert_allclose(
        _ours(named, some_crops(2)), onnx_runtime_probabilities(path, some_crops(2)), atol=1e-5
    )


def test_of_outputs_that_differ_in_their_number_the_one_that_is_named_is_taken(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", heads=2)
    model = onnx.load(path)
    numbered = {"f": "scores:0", "probabilities": "scores:1"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [numbered.get(name, name) for name in names]
    outputs = sorted(numbered.values())
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    onnx.save(model, tmp_path / "numbered.onnx")
    expected = onnx_runtime_probabilities(path, some_crops(2))
    named = Member("a", weights=tmp_path / "numbered.onnx", input=CLASSIFIER_INPUT, options={"output": "scores:1"})
    np.testing.assert_allclose(_ours(named, some_crops(2)), expected, atol=1e-5)


def test_a_graph_needs_its_input_stated(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="are an ONNX model, which does not say how it wants its pixels; state `input`"
    ):
        Member("a", weights=write_classifier(tmp_path / "a.onnx"))


def test_a_damaged_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    data = write_classifier(tmp_path / "a.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read by OpenVINO") as refusal:
        _ours(Member("a", weights=tmp_path / "a.onnx", input=CLASSIFIER_INPUT), some_crops(1))
    assert "\n" not in str(refusal.value)


def _stored(name: str) -> tuple[torch.Tensor, NDArray[np.float32]]:
    theirs = np.load(FILES / f"{name}.npz")
    return torch.from_numpy(theirs["blocks"].repeat(8, axis=2).repeat(8, axis=3)), theirs["probabilities"]


@pytest.mark.parametrize("file", ["classifier.tflite", "onnx.onnx"])
def test_a_stored_graph_gives_its_frameworks_probabilities(file: str) -> None:
    crops, expected = _stored(file.partition(".")[0])
    unit = InputFormat(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    member = Member("a", weights=FILES / file, input=unit)
    assert np.abs(expected[0] - expected[1]).max() > 0.02
    np.testing.assert_allclose(_ours(member, crops, 7), expected, atol=1e-4)


def test_the_inception_of_2015_is_recognised_with_its_preprocessing_and_its_last_head() -> None:
    crops, expected = _stored("inception5h")
    member = Member("a", weights=FILES / "inception5h.pb")
    assert (member.input.mean, member.options) == ((117.0, 117.0, 117.0), {"output": "softmax2"})
    assert np.abs(expected[0] - expected[1]).max() > 0.02
    np.testing.assert_allclose(_ours(member, crops, 9), expected, atol=1e-4)


def test_a_graph_and_a_table_of_its_outputs_are_a_member_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("\n".join(["-", *reversed(CLASS_NAMES), "-"]))
    member = Member("a", weights=FILES / "inception5h.pb", outputs=tmp_path / "order.txt")
    crops, expected = _stored("inception5h")
    images = [("a.png", 0, encoded(Image.fromarray(crops[0].permute(1, 2, 0).numpy())))]
    [image] = scores(Ensemble([member], CLASS_NAMES), images, crops=1, device="cpu")
    # The one crop of a picture of 224 pixels is of its enlarged form, so that only the order is compared.
    found = image.mean_softmax[1][0]
    assert found.shape == (7,)
    assert 0.5 < found.sum() < 1
    np.testing.assert_array_equal(np.argsort(found), np.argsort(expected[0][1:8][::-1]))
