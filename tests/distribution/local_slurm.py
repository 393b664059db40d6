"""A real Slurm on this machine, for the time of a test: emulated nodes on 127.0.0.1, pretend GPUs."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_START_SECONDS = 60.0

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SrunPortRange={first_srun_port}-{last_srun_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
GresTypes=gpu
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=15
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
"""


def missing_reason() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]:
        return f"Slurm is not installed ({', '.join(absent)}); apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "a Slurm for tests is started by root only"


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Attributes:
        environment: in which its commands find it.
    """

    environment: Mapping[str, str]

    def command(self, *words: object, check: bool = True) -> str:
        """Run one of Slurm's commands, or any other under its configuration, and return what it prints."""
        done = subprocess.run(
            [str(word) for word in words],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job as `scontrol` shows them."""
        words = self.command("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, seconds: float = 180) -> dict[str, str]:
        """Wait until a job is in one of the states; give its fields."""
        end = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in states:
            assert time.monotonic() < end, job
            time.sleep(0.2)
        return job


@contextlib.contextmanager
def local_slurm(nodes: int = 2, cpus: int = 8) -> Iterator[Slurm]:
    """Start a Slurm, and stop exactly what was started."""
    # munged insists on folders that everyone can enter, up to the root, so pytest's own will not do.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield from _run_slurm(Path(name), nodes, cpus)


def _run_slurm(folder: Path, nodes: int, cpus: int) -> Iterator[Slurm]:
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge").chmod(0o711)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    names = [f"n{node}" for node in range(nodes)]
    _configure(folder, names, cpus)
    slurm = Slurm({**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")})
    with contextlib.ExitStack() as stack:
        munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder}/munge/{name}" for option, name in munge.items()]
        stack.enter_context(_daemon(folder, slurm, "munged", "--foreground", *options))
        _await((folder / "munge" / "socket").exists, "munged")
        stack.enter_context(_daemon(folder, slurm, "slurmctld", "-D"))
        for name in names:
            (folder / "spool" / name).mkdir()
            stack.enter_context(_daemon(folder, slurm, "slurmd", "-D", "-N", name))
        idle = ("sinfo", "-h", "-N", "-t", "idle", "-o", "%N")
        # Each node stands there once for every partition.
        _await(lambda: len(set(slurm.command(*idle, check=False).split())) == nodes, "its nodes")
        yield slurm
        slurm.command("scancel", "--user", "root", check=False)
        _await(lambda: not slurm.command("squeue", "-h", check=False).strip(), "its queue to end")


def _configure(folder: Path, names: list[str], cpus: int) -> None:
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    port = _free_ports(200)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 << 20)
    text = _CONFIGURATION.format(folder=folder, port=port, first_srun_port=port + 10, last_srun_port=port + 199)
    for place, name in enumerate(names, start=1):
        text += (
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port + place} CPUs={cpus} "
            f"RealMemory={memory} Gres=gpu:2 State=UNKNOWN\n"
        )
    text += "PartitionName=test Nodes=ALL Default=YES OverSubscribe=FORCE PreemptMode=OFF PriorityTier=1\n"
    # Jobs of the first are preempted, after a time of grace, by those of the second.
    text += "PartitionName=low Nodes=ALL PreemptMode=REQUEUE GraceTime=60 PriorityTier=1\n"
    text += "PartitionName=urgent Nodes=ALL PreemptMode=OFF PriorityTier=9\n"
    (folder / "slurm.conf").write_text(text)


def _free_ports(count: int) -> int:
    """The first of a run of ports, of which the first is free; below those that the system hands out."""
    for port in range(20000 + os.getpid() % 40 * count, 32000, count):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def _daemon(folder: Path, slurm: Slurm, *words: str) -> Iterator[None]:
    with (folder / f"{'-'.join(words[:1])}.out").open("ab") as log:
        process = subprocess.Popen(
            words,
            env=dict(slurm.environment),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while not ready():
        assert time.monotonic() < end, f"Slurm waits for {what}"
        time.sleep(0.1)
