"""Pods as processes: what an Indexed Job starts, evicts and starts again, and what its tables hold."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from buckets import Bucket
from builders import write_dataset
from faults import Setup
from outcome import outcome_bytes

from ensemble_eval.jobs.batch import BatchJob
from ensemble_eval.jobs.kubernetes import Kubernetes
from ensemble_eval.locations import ObjectPath

pytest_plugins = ["whole_run"]
pytestmark = [pytest.mark.processes, pytest.mark.slow]


@dataclass
class Pod:
    """A process that stands for a pod, and whether Kubernetes itself ends it."""

    index: int
    process: "subprocess.Popen[str]"
    disrupted: bool = False
    messages: str = ""


@dataclass
class Cluster:
    """Runs the pods of a manifest as the controller of Jobs does: by index, parallelism and failure policy.

    Attributes:
        job: The manifest.
        ended: The pods that have ended, in their order.
        state: Complete or Failed in the end, as Kubernetes has it.
    """

    job: Mapping[str, Any]
    ended: list[Pod] = field(default_factory=list)
    running: list[Pod] = field(default_factory=list)
    state: str = ""

    def run(self, disturb: "Callable[[Cluster], None]" = lambda _: None) -> str:
        """Run to the end; `disturb` is called all the time."""
        spec = self.job["spec"]
        waiting, failures = list(range(spec["completions"])), [0] * spec["completions"]
        failed = set[int]()
        while not self.state and (waiting or self.running):
            while waiting and len(self.running) < spec["parallelism"]:
                self.running.append(self._start(waiting.pop(0)))
            disturb(self)
            time.sleep(0.02)
            for pod in [each for each in self.running if each.process.poll() is not None]:
                self.running.remove(pod)
                self.ended.append(pod)
                _, pod.messages = pod.process.communicate()
                action = self._action(pod)
                failures[pod.index] += action == "Count"
                if action == "FailJob":
                    self.state = "Failed"
                elif action == "FailIndex" or failures[pod.index] > spec["backoffLimitPerIndex"]:
                    failed.add(pod.index)
                elif action:
                    # The index stays the same.
                    waiting.append(pod.index)
        for pod in self.running:
            pod.process.terminate()
            pod.process.communicate()
        self.state = self.state or ("Failed" if failed else "Complete")
        return self.state

    def codes(self) -> list[tuple[int, int]]:
        return [(pod.index, pod.process.returncode) for pod in self.ended]

    def _start(self, index: int) -> Pod:
        [rank] = self.job["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each.get("value", "the Job's own id") for each in rank["env"]}
        environment = {**os.environ, **variables, "JOB_COMPLETION_INDEX": str(index), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ensemble_eval", *rank["command"][1:]]
        return Pod(
            index,
            subprocess.Popen(
                [word.replace("$$", "$") for word in command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )

    def _action(self, pod: Pod) -> str:
        """The first rule that fits the pod; empty if it has done its work."""
        code = pod.process.returncode
        if code == 0:
            return ""
        for rule in self.job["spec"]["podFailurePolicy"]["rules"]:
            if code in rule.get("onExitCodes", {"values": ()})["values"] or (
                "onPodConditions" in rule and pod.disrupted
            ):
                return str(rule["action"])
        return "Count"


def cluster(setup: Setup, out: Path, pods: int, *options: str, **of_system: Any) -> Cluster:
    """The Job of `setup`'s evaluation, each part with one image."""
    [*command] = setup.command(out, ranks=1)
    evaluation = command[command.index("run") + 1 :]
    for name in ("--ranks", "--ensemble", "--out"):
        position = evaluation.index(name)
        del evaluation[position : position + 2]
    mount = () if isinstance(out, ObjectPath) else (f"any:{out}",)
    job = BatchJob(ranks=pods, container_image="any", mount=mount)
    text = Kubernetes(**of_system).text(job, ["ensemble-eval", "run", *evaluation, *options], setup.ensemble, out)
    return Cluster(yaml.safe_load(text))


def test_evicted_and_stopped_pods_do_what_their_index_lacks_and_leave_the_same_bytes(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    """SIGKILL, as when a node is lost, and SIGTERM, as when a pod is preempted: both do not count as failures."""
    left, due = [signal.SIGTERM, signal.SIGKILL], 2

    def disturb(running: Cluster) -> None:
        nonlocal due
        # The oldest is at work, while others may still be starting.
        if left and running.running and not running.running[0].disrupted and setup.parts(tmp_path) >= due:
            pod = running.running[0]
            pod.disrupted = True
            pod.process.send_signal(left.pop())
            due = setup.parts(tmp_path) + 2

    ours = cluster(setup, tmp_path, 2, parallelism=2, retries=0)
    assert ours.run(disturb) == "Complete", [pod.messages for pod in ours.ended]
    assert sorted(pod.process.returncode for pod in ours.ended) == [-signal.SIGKILL, 0, 0, 143]
    [stopped] = [pod for pod in ours.ended if pod.process.returncode == 143]
    assert "stopped by SIGTERM; what was finished is kept, start the same job again" in stopped.messages
    assert {pod.index for pod in ours.ended if pod.process.returncode == 0} == {0, 1}
    # Each part holds one image: none was done again by another index, and at most the one under way by the same.
    assert setup.images <= setup.parts(tmp_path) <= setup.images + 1
    assert outcome_bytes(tmp_path) == expected


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_pods_that_share_nothing_but_a_bucket_leave_the_same_bytes(
    setup: Setup, expected: tuple[bytes, str], bucket: Bucket, tmp_path: Path
) -> None:
    """Data, ensemble and results are there; the first pod to store something is evicted."""
    ensemble = bucket.upload(setup.ensemble.parent, "ensemble") / setup.ensemble.name
    there = Setup(bucket.upload(setup.dataset), setup.images, ensemble)
    out = bucket.root / "results"

    def evict_once(running: Cluster) -> None:
        if not running.ended and there.parts(out) >= 2:
            running.running[0].disrupted = True
            running.running[0].process.kill()

    ours = cluster(there, out, 2, parallelism=2, retries=0)
    assert ours.run(evict_once) == "Complete", [pod.messages for pod in ours.ended]
    assert sorted(code for _, code in ours.codes()) == [-signal.SIGKILL, 0, 0]
    for name, data in bucket.objects().items():
        if name.startswith("results/"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    assert outcome_bytes(tmp_path / "results") == expected


def test_bad_input_ends_the_job_at_once(setup: Setup, tmp_path: Path) -> None:
    ours = cluster(setup, tmp_path, 4, "--labels", "no such file", parallelism=1)
    assert ours.run() == "Failed"
    assert ours.codes() == [(0, 2)]
    assert ours.ended[0].messages.startswith("error: ")


def test_unreadable_images_are_never_a_reason_to_start_again(setup: Setup, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "val", [(40, 40)] * 3)
    (dataset / "ant" / "text.png").write_text("not an image")
    out = tmp_path / "out"
    ours = cluster(Setup(dataset, 4, setup.ensemble), out, 2)
    assert ours.run() == "Failed"
    assert len(ours.ended) == 2
    assert {3} <= {code for _, code in ours.codes()} <= {0, 3}
    assert (out / "table3.csv").exists()
    assert (out / "unreadable.csv").read_text() == "image,reason\nant/text.png,not an image of a known format\n"
    assert any("1 unreadable images are not counted; see" in pod.messages for pod in ours.ended)
