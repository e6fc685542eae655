"""slurm/sweep.sbatch on a real one-node Slurm: munged, slurmctld and slurmd as children, in a folder.

`make proof` installs Slurm and runs this. Skipped where it is not installed, and for other users than root (slurmd
wants to be root to start jobs).
"""
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from sweeps import BIN, CONFIGS, FASHION, PATIENCE, ROOT, Lab, needs, until, wait_for_step

pytestmark = pytest.mark.proof

CONF = """\
ClusterName=trireme
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={d}/munge/sock,cred_expire=5
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool
TmpFS={d}/tmp
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/slurmd.pid
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=pmix
JobRequeue=1
KillWait=3
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1,sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Slurm:
    def __init__(self, d):
        self.d, self.daemons = Path(d), []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TRIREME", "OMPI"))}
        self.env["SLURM_CONF"] = str(self.d / "slurm.conf")

    def start(self):
        host = socket.gethostname().split(".")[0]
        for name in ("munge", "state", "spool", "tmp"):
            (self.d / name).mkdir(mode=0o755)
        os.chmod(self.d, 0o755)  # munge wants every parent of its socket open to look through
        key = self.d / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        conf = self.d / "slurm.conf"
        conf.write_text(CONF.format(host=host, d=self.d, ctld=free_port(), slurmd=free_port()))
        m = self.d / "munge"
        self.daemon("munged", "-F", f"--key-file={key}", f"--socket={m}/sock", f"--pid-file={m}/pid",
                    f"--log-file={m}/log", f"--seed-file={m}/seed", "--num-threads=2", "-f")
        until(lambda: (m / "sock").exists(), "munge's socket")
        self.daemon("slurmctld", "-D", "-c", "-f", conf)
        self.daemon("slurmd", "-D", "-N", host, "-f", conf)
        until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node to be idle", 30)

    def daemon(self, program, *args):
        with open(self.d / f"{program}.out", "ab") as out:
            self.daemons.append(subprocess.Popen(
                [shutil.which(program, path="/usr/sbin:/usr/bin:/sbin"), *map(str, args)], env=self.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True))

    def ask(self, *argv):
        for d in self.daemons:
            assert d.poll() is None, f"{d.args[0]} ended: {self.logs()}"
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=30 * PATIENCE).stdout

    def job_state(self, job):
        found = re.search(r"JobState=(\w+)", self.ask("scontrol", "show", "job", str(job)))
        return found.group(1) if found else ""

    def logs(self):
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-2000:]}"
                         for p in [*self.d.glob("*.log"), *self.d.glob("*.out")])

    def stop(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["scancel", "-f", "--me"], env=self.env, capture_output=True, timeout=30)
        for d in reversed(self.daemons):
            d.terminate()
            try:
                d.wait(10 * PATIENCE)
            except subprocess.TimeoutExpired:
                d.kill()
                d.wait()


@pytest.fixture(scope="module")
def slurm():
    needs("trireme-coordinator", "trireme-worker")
    path = "/usr/sbin:/usr/bin:/sbin"
    missing = [p for p in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not shutil.which(p, path=path)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    d = tempfile.mkdtemp(prefix="trireme-slurm-", dir="/tmp")
    one = Slurm(d)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(d, ignore_errors=True)


@pytest.fixture
def job(slurm, tmp_path):
    """job(args, sets…) submits the script; its number. Its processes bear a lab's mark."""
    lab = Lab()

    def submit(*args, **more):
        env = slurm.env | {"TRIREME_BIN": str(BIN), "TRIREME_TEST_MARK": lab.mark,
                           "TMPDIR": str(lab.path)} | more
        done = subprocess.run(["sbatch", "--parsable", f"--chdir={tmp_path}", *map(str, args)], env=env,
                              capture_output=True, text=True, timeout=30 * PATIENCE)
        assert done.returncode == 0, done
        return int(done.stdout)

    submit.lab, submit.dir = lab, tmp_path
    yield submit
    lab.stop()


def ended(slurm, number, timeout=90):
    until(lambda: slurm.job_state(number) not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", ""),
          f"job {number} to end", timeout)
    return slurm.job_state(number)


def test_sweep_in_one_allocation(slurm, job):
    """sbatch slurm/sweep.sbatch configs/digits-quick.yaml: finished, its store kept, nothing left."""
    if not FASHION.is_dir():
        pytest.skip("no Fashion-MNIST")
    number = job(ROOT / "slurm" / "sweep.sbatch", CONFIGS / "digits-quick.yaml",
                 "--set", "resources.slots_per_trial=2", TRIREME_KEEP=str(job.dir / "kept"))
    state = ended(slurm, number)
    out = (job.dir / f"trireme-{number}.out").read_text()
    assert state == "COMPLETED", f"{out}\n{slurm.logs()}"
    assert "rank" in out and "the store is in" in out, out
    job.lab.assert_quiet()
    kept = job.dir / "kept"
    look = {**job.lab.env, "TRIREME_HOME": str(kept)}
    sweeps = json.loads(subprocess.run([BIN / "trireme", "ls", "--json"], env=look, capture_output=True,
                                       text=True, check=True, timeout=60 * PATIENCE).stdout)
    assert [(s["name"], s["state"]) for s in sweeps] == [("digits-quick", "completed")]
    runs = json.loads(subprocess.run([BIN / "trireme", "ls", sweeps[0]["sweep"], "--json"], env=look,
                                     capture_output=True, text=True, check=True, timeout=60 * PATIENCE).stdout)
    assert len(runs) == 4 and {r["state"] for r in runs} == {"completed"}


def test_before_the_wall_time_ends(slurm, job):
    """TERM, as a minute before the end: the sweep is left resumable, the store kept; resumed here, it has the
    bits of a sweep that never saw Slurm."""
    if not FASHION.is_dir():
        pytest.skip("no Fashion-MNIST")
    sets = ["--set", "searcher.max_time=16", "--set", "searcher.max_trials=2"]
    home = job.lab.path / "home"
    number = job(ROOT / "slurm" / "sweep.sbatch", CONFIGS / "digits-quick.yaml", *sets,
                 TRIREME_KEEP=str(job.dir / "kept"), TRIREME_HOME=str(home))
    until(lambda: job.lab.processes("trireme-worker"), "a worker", 60)
    job.lab.path, outer = home, job.lab.path
    job.lab.env["TRIREME_HOME"] = str(home)
    try:
        wait_for_step(job.lab, 200)
        subprocess.run(["scancel", "-b", "-s", "TERM", str(number)], env=slurm.env, check=True, timeout=30 * PATIENCE)
        assert ended(slurm, number) == "FAILED"
        job.lab.assert_quiet()
    finally:
        job.lab.path = outer
    kept = job.dir / "kept"
    job.lab.env["TRIREME_HOME"] = str(kept)
    sweep_id = job.lab.run("ls", "--ids").out.strip()
    assert {r["state"] for r in job.lab.run("ls", sweep_id, "--json").json}.isdisjoint({"running", "queued"})
    resumed = job.lab.run("resume", sweep_id, "--json", timeout=60).json
    job.lab.env["TRIREME_HOME"] = str(job.dir / "other")
    undisturbed = job.lab.run("run", CONFIGS / "digits-quick.yaml", "--json", *sets, timeout=60).json
    assert [t["weights_digest"] for t in resumed["trials"]] == \
        [t["weights_digest"] for t in undisturbed["trials"]]


def test_a_bad_sweep_file_fails_at_once(slurm, job):
    (job.dir / "bad.yaml").write_text("name: x\n")
    number = job(ROOT / "slurm" / "sweep.sbatch", job.dir / "bad.yaml")
    assert ended(slurm, number, 30) == "FAILED"
    assert "bad.yaml" in (job.dir / f"trireme-{number}.out").read_text()


