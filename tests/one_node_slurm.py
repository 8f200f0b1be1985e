"""A Slurm of one node on this machine, in a folder and on ports of its own.

It is a real one: munged, slurmctld and slurmd, as root. `.ci/slurm` installs them.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

_CONFIGURATION = """
ClusterName=mijax
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeued}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
SrunPortRange={first}-{last}
KillWait=3
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
_PATIENCE = 30  # seconds for a daemon to answer
_REQUEUED = 5  # seconds that a job which is queued again waits; Slurm's default is 120


class Cluster:
    """The three daemons, and their folder.

    Attributes:
      environment: with which Slurm's commands find this cluster.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("a") as log:
            self.daemons[name] = subprocess.Popen(
                [name, *words],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, name: str) -> None:
        """Stops a daemon, as an administrator would; its jobs go on."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(_PATIENCE)

    def start_node(self) -> None:
        """Starts slurmd, and waits until the controller has its node."""
        self._start("slurmd", "-D")
        self.wait("sinfo", "--noheader", "--format=%t", until=("idle", "mix", "alloc"))

    def start(self) -> None:
        """Starts everything."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        controller, node, *_ = ports = _free_ports(2)
        first = max(ports) + 10
        (self.folder / "slurm.conf").write_text(
            _CONFIGURATION.format(
                host=socket.gethostname(),
                folder=self.folder,
                controller=controller,
                node=node,
                first=first,
                last=first + 200,
                requeued=_REQUEUED,
            )
        )
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"socket": "munge.socket", "key-file": "munge.key"}
        files |= {"pid-file": "munged.pid", "log-file": "munged.log"}
        files |= {"seed-file": "munged.seed"}
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        self._start("munged", "--foreground", "--force", *options)
        self.wait("munge", f"--socket={self.folder / 'munge.socket'}", "--no-input")
        self._start("slurmctld", "-D", "-c")
        self.wait("scontrol", "ping", until=("UP",))
        self.start_node()

    def wait(self, *command: str, until: tuple[str, ...] = ("",)) -> None:
        """Waits until a command succeeds and prints one of some words."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            ended = self.call(*command, check=False)
            if ended.returncode == 0 and any(word in ended.stdout for word in until):
                return
            if time.monotonic() > deadline:
                logs = {p.name: p.read_text()[-800:] for p in self.folder.glob("*.log")}
                raise TimeoutError(f"{command}: {ended.stdout} {ended.stderr}\n{logs}")
            time.sleep(0.1)

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Calls one of Slurm's commands."""
        return subprocess.run(
            command,
            env=os.environ | self.environment,
            check=check,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def missing() -> str:
    """What this machine lacks for a cluster, as a sentence; empty if nothing."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    names = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
    lacks = [name for name in names if not shutil.which(name, path=path)]
    if lacks:
        return f"There is no {', '.join(lacks)}: run .ci/slurm as root."
    return "" if os.geteuid() == 0 else "slurmd needs root."


@contextlib.contextmanager
def running():
    """A cluster, which is stopped at the end with all that it still runs."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as f:
        cluster = Cluster(pathlib.Path(f))
        try:
            cluster.start()
            yield cluster
        finally:
            with contextlib.suppress(Exception):
                cluster.call("scancel", "--me", check=False)
                cluster.wait("sh", "-c", 'test -z "$(squeue --noheader)"')
            for name in ("slurmd", "slurmctld", "munged"):
                if name in cluster.daemons:
                    cluster.stop(name)
