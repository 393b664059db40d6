"""`submit --kubernetes`: the manifest, what Kubernetes makes of it, and what is refused."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from ensemble_eval.jobs.kubernetes import yaml_lines

# The first whose Indexed Jobs count failures by index without a feature gate, and the newest.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
IMAGE = "registry.example/ensemble-eval:1"
EVALUATION = ("/data/val", "--ensemble", "/data/seven.toml", "--out", "/data/my results")
SUBMIT = ("submit", *EVALUATION, "--kubernetes", "--container-image", IMAGE, "--mount", "data:/data")
EVERYTHING = (
    *("--nodes", 8, "--gpus-per-node", 8, "--cpus-per-rank", 6, "--time", "1-0", "--job-name", "googlenets"),
    *("--parallelism", 16, "--memory", "32Gi", "--retries", 5, "--namespace", "vision", "--service-account", "me"),
    *("--secret", "bucket", "--secret", "proxy", "--mount", "scratch:/scratch"),
    *("--setup", "export NAME='a b'", "--crops", 144, "--unreadable-ok"),
)
COMMAND = [
    *("ensemble-eval", "run", "/data/val", "--crops", "144", "--unreadable-ok"),
    *("--ensemble", "/data/seven.toml", "--out", "/data/my results"),
]


def manifest(cli: Cli, *options: object) -> dict[str, Any]:
    """What `submit` prints, read by somebody else's YAML and checked against the schemas of Kubernetes."""
    printed = cli(*SUBMIT, *options, "--dry-run")
    assert printed.code == 0, printed.err
    read: dict[str, Any] = yaml.safe_load(printed.out)
    for version in VERSIONS:
        kubernetes_validate.validate(read, version, strict=True)
    return read


def container(job: dict[str, Any]) -> dict[str, Any]:
    [only] = job["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_everything_that_can_be_asked_for_is_in_the_manifest(cli: Cli) -> None:
    job = manifest(cli, *EVERYTHING)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["metadata"] == {"name": "googlenets", "namespace": "vision"}
    spec = job["spec"]
    pod = spec.pop("template")["spec"]
    del spec["podFailurePolicy"]
    assert spec == {
        "completionMode": "Indexed",
        "completions": 64,
        "parallelism": 16,
        "backoffLimitPerIndex": 5,
        "activeDeadlineSeconds": 86400,
    }
    [rank] = pod.pop("containers")
    assert pod == {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "serviceAccountName": "me",
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "mount-0", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "mount-1", "persistentVolumeClaim": {"claimName": "scratch"}},
        ],
    }
    assert rank.pop("command")[-len(COMMAND) :] == COMMAND
    identity = "metadata.labels['batch.kubernetes.io/controller-uid']"
    assert rank == {
        "name": "ensemble-eval",
        "image": IMAGE,
        "env": [
            {"name": "WORLD_SIZE", "value": "64"},
            {"name": "TORCHELASTIC_RUN_ID", "valueFrom": {"fieldRef": {"fieldPath": identity}}},
        ],
        "envFrom": [{"secretRef": {"name": "bucket"}}, {"secretRef": {"name": "proxy"}}],
        "resources": {"limits": {"cpu": "6", "memory": "32Gi", "nvidia.com/gpu": "1"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "mount-0", "mountPath": "/data"}, {"name": "mount-1", "mountPath": "/scratch"}],
    }


def test_one_pod_of_four_cores_without_a_limit_is_asked_for_unless_more_is(cli: Cli) -> None:
    job = manifest(cli)
    assert job["metadata"] == {"name": "ensemble-eval"}
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (1, 1, 3)
    assert "activeDeadlineSeconds" not in spec
    rank = container(job)
    assert rank["command"] == [word for word in COMMAND if word not in ("--crops", "144", "--unreadable-ok")]
    assert rank["resources"] == {"limits": {"cpu": "4"}}
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in rank["env"]
    assert not {"serviceAccountName", "envFrom"} & {*spec["template"]["spec"], *rank}


def action(job: dict[str, Any], code: int, *, disrupted: bool = False) -> str:
    """What Kubernetes does with a pod that failed: the first rule that fits; else it is retried and counts."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        conditions = [each["type"] for each in rule.get("onPodConditions", ()) if each["status"] == "True"]
        if code in rule.get("onExitCodes", {"values": ()})["values"] or (
            disrupted and "DisruptionTarget" in conditions
        ):
            return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    ("code", "disrupted", "expected"),
    [
        (1, False, "Count"),  # a fault of ours
        (2, False, "FailJob"),  # bad input, which is the same for every pod
        (3, False, "FailIndex"),  # the tables are there
        (130, False, "Ignore"),
        (143, False, "Ignore"),
        (137, True, "Ignore"),  # evicted, preempted or on a node that is drained
        (137, False, "Count"),  # out of memory
    ],
)
def test_each_exit_code_has_its_consequence(cli: Cli, code: int, disrupted: bool, expected: str) -> None:
    assert action(manifest(cli), code, disrupted=disrupted) == expected


def test_the_failure_policy_is_one_that_the_api_accepts(cli: Cli) -> None:
    """Rules of the API server that its schema does not hold."""
    job = manifest(cli)
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        values = rule.get("onExitCodes", {"values": [1]})["values"]
        assert values == sorted(set(values))
        assert 0 not in values


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_every_field(cli: Cli, tmp_path: Path) -> None:
    """It drops what it does not know."""
    job = manifest(cli, *EVERYTHING)
    printed = cli(*SUBMIT, *EVERYTHING, "--dry-run").out
    (tmp_path / "job.yaml").write_text(printed.replace(IMAGE, "another"))
    command = ["kubectl", "set", "image", "--local", "-f", str(tmp_path / "job.yaml"), f"*={IMAGE}", "-o", "json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)}
    )

    def assert_within(ours: Any, theirs: Any) -> None:
        if isinstance(ours, dict):
            for name, value in ours.items():
                assert_within(value, theirs[name])
        elif isinstance(ours, list):
            assert len(ours) == len(theirs)
            for pair in zip(ours, theirs, strict=True):
                assert_within(*pair)
        else:
            assert ours == theirs

    assert_within(job, json.loads(done.stdout))


def expanded(word: str, variables: dict[str, str]) -> str:
    """As the kubelet replaces variables in the words of a command."""
    found = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")
    return found.sub(lambda match: "$" if match[0] == "$$" else variables.get(match["name"], match[0]), word)


def test_words_and_setup_reach_the_rank_as_they_were_given(cli: Cli, tmp_path: Path) -> None:
    nasty = "a $(WORLD_SIZE) $$ $HOME 'b' \"c\" `id` ; $(touch x) ü"
    setup = ("export GIVEN=\"$(echo '1 2')\" # a comment", "NUMBER=$((1 + 1)); export NUMBER")
    options = [word for command in setup for word in ("--setup", command)]
    job = manifest(cli, "--labels", nasty, *options)
    program = tmp_path / "bin" / "ensemble-eval"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$GIVEN" "$NUMBER" "$$" "$@"\n')
    program.chmod(0o755)
    words = [expanded(word, {"WORLD_SIZE": "1"}) for word in container(job)["command"]]
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": "/nowhere"}
    with subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate()
    # The rank is the process that Kubernetes signals.
    ran = ["run", "/data/val", "--labels", nasty, *COMMAND[-4:]]
    assert printed.splitlines() == ["1 2", "2", str(process.pid), *ran]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["false", "exit 2", "no-such-command", "echo 'unclosed", "test -e $(echo"])
def test_a_setup_that_fails_starts_nothing(cli: Cli, command: str) -> None:
    job = manifest(cli, "--setup", command)
    words = [expanded(word, {}) for word in container(job)["command"]]
    # With 127, the shell would have looked for the rank's program. It leaves with 2 if it cannot read a command.
    assert subprocess.run(words, capture_output=True, check=False).returncode in (1, 2)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"]))
scalars = st.none() | st.booleans() | st.integers() | texts
keys = st.from_regex(r"[a-z][a-zA-Z.]{0,8}/?[a-z]", fullmatch=True).filter(
    lambda key: key not in ("null", "true", "false", "yes", "no", "on", "off")
)


@pytest.mark.slow
@given(
    st.dictionaries(
        keys,
        st.recursive(
            scalars,
            lambda inner: (
                st.lists(inner, min_size=1, max_size=3) | st.dictionaries(keys, inner, min_size=1, max_size=3)
            ),
            max_leaves=12,
        ),
        min_size=1,
    )
)
def test_any_table_survives_as_yaml(table: dict[str, Any]) -> None:
    assert yaml.safe_load("\n".join(yaml_lines(table))) == table


ONE_LINE = "contains a line break or another control character; write it on one line"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--secret", "a\nb"), f"--secret {ONE_LINE}"),
        (("--service-account", "a\rb"), f"--service-account {ONE_LINE}"),
        (("--namespace", "a\u2028b"), f"--namespace {ONE_LINE}"),
        (("--memory", "1Gi\0"), f"--memory {ONE_LINE}"),
        (("--mount", "data:/a\nb"), f"--mount {ONE_LINE}"),
        (
            ("--out", "results"),
            "each pod would write to its own results, which is lost when the pod ends; give --out as a URL",
        ),
        (
            ("--out", "/database/results"),
            "each pod would write to its own /database/results, which is lost when the pod ends",
        ),
        (("--setup", "a\nb"), f"--setup {ONE_LINE}"),
        (("--container-image", "a\nb"), f"--container-image {ONE_LINE}"),
        (("--mount", "data"), "--mount is of the form SOURCE:PATH with an absolute PATH, not 'data'"),
        (
            ("--mount", "data:/a,b:/c"),
            "--mount is of the form SOURCE:PATH with an absolute PATH, not 'data:/a,b:/c'",
        ),
        (("--parallelism", 0), "--parallelism is a whole number of at least 1, not 0"),
        (("--fresh",), "--fresh would start over at every requeue; remove /data/my results and submit without it"),
        (("--time", "1:00"), "--time 1:00 leaves no time to work"),
        (
            ("--partition", "gpu"),
            "--partition is for Slurm only; leave out --kubernetes, or leave out --partition",
        ),
        (("--sbatch", "--qos=a"), "--sbatch is for Slurm only; leave out --kubernetes, or leave out --sbatch"),
        (("--no-requeue",), "--requeue is for Slurm only; leave out --kubernetes, or leave out --requeue"),
    ],
)
def test_what_the_manifest_could_not_hold_is_refused(cli: Cli, options: tuple[object, ...], sentence: str) -> None:
    refused = cli(*SUBMIT, *options, "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"error: {sentence}")
    assert refused.err.count("\n") == 1


def test_results_in_a_bucket_need_no_volume(cli: Cli) -> None:
    at_bucket = ("s3://data/val", "--ensemble", "s3://data/seven.toml", "--out", "s3://data/results")
    printed = cli("submit", *at_bucket, "--kubernetes", "--container-image", IMAGE, "--dry-run")
    assert printed.code == 0, printed.err
    pod = yaml.safe_load(printed.out)["spec"]["template"]["spec"]
    assert "volumes" not in pod
    assert "volumeMounts" not in pod["containers"][0]


def test_an_image_is_required_and_options_of_kubernetes_are_no_options_of_slurm(cli: Cli) -> None:
    refused = cli("submit", *EVALUATION, "--kubernetes", "--dry-run")
    assert refused.err == (
        "error: Kubernetes needs a container image; name it with --container-image (the repository has a "
        "Dockerfile)\n"
    )
    refused = cli("submit", *EVALUATION, "--parallelism", 2, "--dry-run")
    assert refused.err == (
        "error: --parallelism is for Kubernetes only; give --kubernetes too, or leave out --parallelism\n"
    )


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that keeps its arguments and what it reads."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/words'\n/bin/cat > '{tmp_path}/read'\necho made\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_the_manifest_goes_to_kubectl(cli: Cli, tmp_path: Path, kubectl: Path) -> None:
    submitted = cli(*SUBMIT, "--job-name", "mine", "--namespace", "vision")
    assert submitted.code == 0, submitted.err
    assert (tmp_path / "words").read_text() == "create --filename -\n"
    assert (tmp_path / "read").read_text() == cli(
        *SUBMIT, "--job-name", "mine", "--namespace", "vision", "--dry-run"
    ).out
    labels = "batch.kubernetes.io/job-name=mine,batch.kubernetes.io/job-completion-index=0"
    assert submitted.out.splitlines() == [
        "made",
        f"follow it with: kubectl logs --follow --namespace vision --selector {labels}",
        "or with:        ensemble-eval status '/data/my results'",
    ]
    assert not Path("/data/my results").exists()

    kubectl.write_text(
        "#!/bin/sh\necho 'Error from server (AlreadyExists): jobs.batch \"mine\" already exists' >&2\nexit 1\n"
    )
    refused = cli(*SUBMIT)
    assert refused.code == 2
    assert refused.err.startswith("error: kubectl refuses the job: Error from server (AlreadyExists): jobs.batch")
    kubectl.unlink()
    assert "there is no kubectl on this machine; submit from one that has it, or use --dry-run" in cli(*SUBMIT).err
