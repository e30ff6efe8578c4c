"""Two hosts on one machine: network namespaces with a cable between them, for jobs of Open MPI."""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess

AGENT = str(pathlib.Path(__file__).with_name("netns_agent.sh"))
SSH = str(pathlib.Path(__file__).with_name("netns_ssh.sh"))
SUBNET = "10.177.5"


class NoNamespaces(Exception):
    pass


def set_namespace(file):
    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Hosts:
    """Namespaces A and B, and the cable."""

    def __init__(self):
        self.names = [f"ls{end}{os.getpid()}" for end in "ab"]

    def __enter__(self):
        try:
            for name in self.names:
                self.ip("netns", "add", name)
            a, b = self.names
            self.ip("link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b)
            for last, name in enumerate(self.names, 1):
                self.ip("-n", name, "address", "add", f"{SUBNET}.{last}/24", "dev", "cable")
                self.ip("-n", name, "link", "set", "cable", "up")
                self.ip("-n", name, "link", "set", "lo", "up")
                # TCP gives up after some seconds instead of a quarter of an hour, and with it mpirun and its daemons;
                # not before we do, since then Open MPI ends its process.
                self.inside(name, "unshare", "--uts", "sh", "-c", "echo 4 > /proc/sys/net/ipv4/tcp_retries2")
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            raise NoNamespaces(f"{error} {(getattr(error, 'stderr', None) or b'').decode().strip()}") from error
        return self

    def __exit__(self, *_):
        for name in self.names:
            for pid in self.processes(name):
                os.kill(pid, signal.SIGKILL)
            if pathlib.Path("/run/netns", name).exists():
                self.ip("netns", "delete", name)

    def ip(self, *arguments):
        self.run("ip", *arguments)

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True)

    def inside(self, name, *command):
        self.ip("netns", "exec", name, *command)

    def processes(self, name):
        if not pathlib.Path("/run/netns", name).exists():
            return []
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
        return [int(pid) for pid in listed.split()]

    def limit(self, gbit_per_s):
        """What either end may send, with no more than 2 ms of it waiting."""
        for name in self.names:
            burst = max(int(gbit_per_s * 1e9 / 8 * 0.002), 65536)  # bytes
            self.run("tc", "-n", name, "qdisc", "replace", "dev", "cable", "root", "tbf", "rate", f"{gbit_per_s}gbit",
                         "burst", str(burst), "latency", "5ms")

    def bytes_sent(self):
        shown = subprocess.run(["ip", "-j", "-s", "-n", self.names[0], "link", "show", "cable"], capture_output=True)
        return json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"]

    @staticmethod
    def launcher(mpirun, agent=AGENT):
        """mpirun and the flags with which it reaches such hosts, over the cable."""
        only = f"{SUBNET}.0/24"
        return [mpirun, "--mca", "plm_rsh_agent", agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", only,
                "--mca", "oob_tcp_if_include", only]

    def mpirun(self, mpirun, ranks_each):
        """The start of a command line: ranks on both hosts."""
        return [AGENT, self.names[0], *self.launcher(mpirun), "--host", ",".join(f"{name}:{ranks_each}" for name in self.names),
                "-n", str(2 * ranks_each)]

    @contextlib.contextmanager
    def here(self):
        """This thread is on the first host."""
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self.names[0]}") as there:
            set_namespace(there)
            try:
                yield
            finally:
                set_namespace(before)
