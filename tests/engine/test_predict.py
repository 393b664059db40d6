"""Errors of members and of memory, and running the members of a batch."""

import pytest
import torch
from torch import Tensor

from ensemble_eval.engine.predict import Forward, OutOfDeviceMemoryError, errors_of_member, memory_errors_of
from ensemble_eval.errors import InputError


def test_members_run_in_the_order_in_which_they_are_asked_for() -> None:
    calls = []
    forward = Forward([lambda crops, seed=seed: torch.full((len(crops), 2), seed) for seed in range(3)])
    watched = Forward([lambda crops: crops.float()], before_forward=lambda: calls.append("before"))
    crops = torch.zeros(4, 1, dtype=torch.uint8)
    assert forward(crops, [2, 0])[:, 0, 0].tolist() == [2, 0]
    assert forward(crops, [2, 0]).shape == (2, 4, 2)
    watched(crops, [0, 0])
    assert calls == ["before"] * 2
    assert forward.new_notices() == []


def test_every_batch_is_a_tensor_of_its_own_over_the_same_memory() -> None:
    given, crops = list[Tensor](), torch.zeros(1, 1, dtype=torch.uint8)
    forward = Forward([lambda batch: given.append(batch) or batch.float()])  # type: ignore[func-returns-value]  # it is None, and `or` follows
    forward(crops, [0])
    forward(crops, [0])
    assert len({id(each) for each in [crops, *given]}) == 3
    assert {each.data_ptr() for each in given} == {crops.data_ptr()}


def test_any_error_of_a_member_names_it_and_the_packages_own_pass() -> None:
    with (
        pytest.raises(InputError, match=r"^member a raises KeyError \('b'\); fix it$") as refused,
        errors_of_member("member a"),
    ):
        raise KeyError("b")
    assert isinstance(refused.value.__cause__, KeyError)
    own = OutOfDeviceMemoryError("a batch of 2")
    with pytest.raises(OutOfDeviceMemoryError) as passed, errors_of_member("member a"):
        raise own
    assert passed.value is own
    with errors_of_member("member a"):
        pass


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA ran short"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_memory_that_ran_out_is_one_error_however_it_is_told(error: Exception) -> None:
    with (
        pytest.raises(OutOfDeviceMemoryError, match=r"^a batch of 2$") as raised,
        memory_errors_of("a batch of 2"),
    ):
        raise error
    assert raised.value.__cause__ is error


def test_memory_that_ran_out_may_be_the_cause_of_another_error() -> None:
    with pytest.raises(OutOfDeviceMemoryError, match=r"^a batch of 2$"), memory_errors_of("a batch of 2"):
        raise RuntimeError("the capture of a graph failed") from torch.OutOfMemoryError("CUDA ran short")


def test_an_algorithm_that_cudnn_does_not_find_counts_as_memory_and_is_named() -> None:
    message = r"^a batch of 2 \(GET was unable to find an engine to execute this computation\)$"
    with pytest.raises(OutOfDeviceMemoryError, match=message), memory_errors_of("a batch of 2"):
        raise RuntimeError("GET was unable to find an engine to execute this computation")


def test_other_errors_pass() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised, memory_errors_of("a batch of 2"):
        raise error
    assert raised.value is error
    with memory_errors_of("a batch of 2"):
        pass
