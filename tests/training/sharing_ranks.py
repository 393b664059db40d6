"""What several processes do in the tests of a shared training, each in a process of its own."""

import os
from pathlib import Path
from typing import Any

import torch
from tiny_training import tiny_task

from ensemble_eval.errors import InputError
from ensemble_eval.settings import TrainingSettings
from ensemble_eval.training import job, task
from ensemble_eval.training.config import read_recipe
from ensemble_eval.training.processes import Processes, joined_processes
from ensemble_eval.training.records import Line, MemberStarted, StepDone
from ensemble_eval.training.task import Site, Task

STOPPED_AFTER = 3


def shared_task(folder: Path, processes: Processes) -> Task:
    """The task of a member with several batches for each process."""
    alone = tiny_task(folder, schedule={"batch_norm_images": 18, "averaging_start_epoch": 0})
    return Task(alone.recipe, alone.plan, alone.data, Site(torch.device("cpu"), processes, 0))


def judged(shared: Task) -> dict[str, Any]:
    """The errors of a network that is the same in all processes, and the statistics of its inference network."""
    network = shared.initial_network()
    with torch.no_grad():
        network.get_submodule("fc").weight.mul_(50)  # type: ignore[operator]  # a parameter
    inference = shared.inference_network(network, averaged=True, epoch=0)
    return {"errors": shared.judge(network.eval()), "statistics": inference.state_dict()}


def rank_main(rank: int, world: int, folder: Path, port: int) -> None:
    """One process's part; what it found is in `<rank>.pt`."""
    torch.set_num_threads(1)
    task.INFERENCE_BATCH_SIZE = 2
    environment: dict[str, object] = {
        "RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": world,
    }
    environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in environment.items()}
    with joined_processes() as processes:
        found = judged(shared_task(folder / "data", processes))
        found |= _messages(processes, rank) | _buffers(processes, rank)
        found["resumed"] = _resumed(folder / "data", folder / f"out{rank}", processes)
    torch.save(found, folder / f"{rank}.pt")


def _messages(processes: Processes, rank: int) -> dict[str, Any]:
    called = []

    def refuse() -> str:
        raise InputError("as the first says")

    said = processes.from_first(lambda: called.append(rank) or f"of {rank}")  # type: ignore[func-returns-value]  # None is falsy
    try:
        processes.from_first(refuse)
        refused = ""
    except InputError as error:
        refused = str(error)
    return {"said": said, "called": called, "refused": refused, "loaders": processes.loaders(5)}


def _buffers(processes: Processes, rank: int) -> dict[str, Any]:
    network = torch.nn.BatchNorm2d(2)
    network.running_mean.fill_(rank + 1)  # type: ignore[union-attr]  # it has statistics
    processes.take_buffers_of_first(network)
    return {"buffers": network.running_mean}


def _resumed(data: Path, out: Path, processes: Processes) -> int:
    """The step from which each goes on, though only the first one's folder has a state; and to the end."""
    recipe = read_recipe(data / "tiny.toml")
    settings = TrainingSettings(out=out, members=("a",), device="cpu", workers=0)
    begun = job.train(recipe, settings, processes)
    next(event for event in begun if isinstance(event, StepDone) and event.step == STOPPED_AFTER)
    begun.close()
    again = list(job.train(recipe, settings, processes))
    started = [event.step for event in again if isinstance(event, MemberStarted)]
    lines = [event.text for event in again if isinstance(event, Line)]
    assert lines == [f"a: written to {out / 'a.safetensors'}"]
    return started[0]
