"""Writes a job's manifest for Kubernetes: an Indexed Job with a pod for each rank."""

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.errors import STOPPED_EXIT_CODES, UNREADABLE_EXIT_CODE, InputError
from ensemble_eval.fields import option
from ensemble_eval.jobs.batch import GRACE_SECONDS, BatchJob, OneLineFields
from ensemble_eval.jobs.process import SESSION_VARIABLE
from ensemble_eval.locations import ObjectPath

_NAME = "ensemble-eval"
_LABELS = "batch.kubernetes.io"


def _on_exit_codes(*codes: int) -> dict[str, Any]:
    return {"onExitCodes": {"containerName": _NAME, "operator": "In", "values": list(codes)}}


# What happens to pods that fail, by the first rule that fits. Other failures are retried and count.
_RULES = (
    {"action": "FailJob", **_on_exit_codes(InputError.exit_code)},
    {"action": "FailIndex", **_on_exit_codes(UNREADABLE_EXIT_CODE)},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "Ignore", **_on_exit_codes(*STOPPED_EXIT_CODES)},
)


@dataclass(frozen=True, kw_only=True)
class Kubernetes(OneLineFields):
    """The options of a batch job that only Kubernetes has."""

    submit_command = ("kubectl", "create", "--filename", "-")

    parallelism: int | None = option(None, "Pods that run at once.  [default: all]", low=1)
    memory: str | None = option(None, "Memory of each pod, such as 16Gi.  [default: the namespace's]")
    retries: int = option(3, "How often a pod that fails is started again; interruptions do not count.", low=0)
    namespace: str | None = option(None, "[default: that of the context]")
    service_account: str | None = option(None, "[default: the namespace's]")
    secret: tuple[str, ...] = option(
        (), "Secret whose entries become environment variables; repeatable.", metavar="NAME"
    )

    def follow(self, job: BatchJob, _out: Path, _said: str) -> str:
        """Return the command that shows the log of the pod that reports the progress."""
        space = ["--namespace", self.namespace] if self.namespace else []
        labels = f"{_LABELS}/job-name={job.job_name},{_LABELS}/job-completion-index=0"
        return shlex.join(["kubectl", "logs", "--follow", *space, "--selector", labels])

    def tasks(self, ensemble: Path, out: Path) -> list[tuple[Path, Path]]:
        """Return the ensemble and the output folder of the job."""
        return [(ensemble, out)]

    def text(self, job: BatchJob, command: Sequence[str], ensemble: Path, out: Path) -> str:
        """Return the manifest as YAML.

        Args:
            job: The ranks and their resources.
            command: The command of each rank, without its ensemble and its output folder.
            ensemble: The ensemble.
            out: The folder for the results.

        Raises:
            InputError: There is no image, or the results would be lost with the pod.
        """
        if job.container_image is None:
            raise InputError(
                "Kubernetes needs a container image; name it with `container_image` (the repository has a "
                "Dockerfile)"
            )
        if not isinstance(out, ObjectPath) and not any(out.is_relative_to(path) for _, path in job.mounts):
            raise InputError(
                f"each pod would write to its own {out}, which is lost when the pod ends; give `out` as a URL in "
                "a bucket, or below the path of a `mount`"
            )
        words = [*command, "--ensemble", str(ensemble), "--out", str(out)]
        return "\n".join([*yaml_lines(self._manifest(job, words)), ""])

    def _manifest(self, job: BatchJob, words: Sequence[str]) -> dict[str, Any]:
        pods = job.nodes * job.ranks_per_node
        spec = {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": min(pods, self.parallelism or pods),
            "backoffLimitPerIndex": self.retries,
            "activeDeadlineSeconds": job.seconds(),
            "podFailurePolicy": {"rules": list(_RULES)},
            "template": {"spec": self._pod(job, words, pods)},
        }
        metadata = {"name": job.job_name, "namespace": self.namespace}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _given(metadata), "spec": _given(spec)}

    def _pod(self, job: BatchJob, words: Sequence[str], pods: int) -> dict[str, Any]:
        claims = [(f"mount-{number}", *each) for number, each in enumerate(job.mounts)]
        # Requests default to limits. The limit of processors also tells a rank how many threads to start.
        limits = {"cpu": str(job.cpus_per_rank), "memory": self.memory}
        limits |= {"nvidia.com/gpu": "1" if job.gpus_per_node else None}
        container = {
            "name": _NAME,
            "image": job.container_image,
            "command": list(map(_literal, _with_setup(job, words))),
            "env": list(_variables(job, pods)),
            "envFrom": [{"secretRef": {"name": name}} for name in self.secret],
            "resources": {"limits": _given(limits)},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": name, "mountPath": path} for name, _, path in claims],
        }
        return _given(
            {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": GRACE_SECONDS,
                "serviceAccountName": self.service_account,
                # A service of our name would set variables that look like options.
                "enableServiceLinks": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [_given(container)],
                "volumes": [
                    {"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim, _ in claims
                ],
            }
        )


def yaml_lines(value: Any) -> Iterator[str]:
    """Yield the lines of a table or list in YAML's block style, with all scalars as in JSON.

    Example:
        >>> print("\\n".join(yaml_lines({"kind": "Job", "rules": [{"action": "Ignore", "values": [2]}]})))
        kind: "Job"
        rules:
          - action: "Ignore"
            values:
              - 2
    """
    is_table = isinstance(value, dict)
    for start, each in ((f"{name}:", value[name]) if is_table else ("-", name) for name in value):
        if not isinstance(each, dict | list):
            yield f"{start} {json.dumps(each, ensure_ascii=False)}"
            continue
        lines = list(yaml_lines(each))
        yield start if is_table else f"{start} {lines.pop(0)}"
        yield from (f"  {line}" for line in lines)


def _given(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value not in (None, [])}


def _variables(job: BatchJob, pods: int) -> Iterable[dict[str, Any]]:
    """Yield the variables that make a pod a rank. Kubernetes itself adds the index."""
    yield {"name": "WORLD_SIZE", "value": str(pods)}
    identity = f"metadata.labels['{_LABELS}/controller-uid']"
    yield {"name": SESSION_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": identity}}}
    if job.gpus_per_node == 0:
        yield {"name": "OMP_NUM_THREADS", "value": str(job.cpus_per_rank)}


def _with_setup(job: BatchJob, words: Sequence[str]) -> Sequence[str]:
    if not job.setup:
        return words
    # With exec, signals reach the rank and not the shell.
    return ["/bin/sh", "-c", "; ".join([*job.setup_lines(), 'exec "$@"']), "sh", *words]


def _literal(word: str) -> str:
    """Keep Kubernetes from replacing $(NAME) in a word with a variable."""
    return word.replace("$", "$$")
