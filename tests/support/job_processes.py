"""The processes of a job that a test has started."""
import pathlib


def job_processes(mark):
    """Those that run with `mark` ("NAME=VALUE") in their environment, by pid: their rank; None: they have none."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in environment:
            rank = [e.split(b"=")[1] for e in environment if e.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[int(entry.name)] = int(rank[0]) if rank else None
    return found
