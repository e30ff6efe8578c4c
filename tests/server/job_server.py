"""`longspan serve` with processes of its own."""
import contextlib
import os
import signal
import threading

from live_server import PATIENCE, Server, expect, wait_for


class JobServer(Server):
    """All that it says is read all along; at its end none of its processes may be left. `folder`: a TemporaryDirectory, which
    ends with it."""

    def __init__(self, folder, program, *flags, **more):
        self.folder = folder
        super().__init__(program, *flags, **more)
        self.said = []  # what comes later on its stderr, which must not fill its pipe
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.reader.start()

    def processes(self):
        """The pids of those that run."""
        raise NotImplementedError

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        return self.end()

    def end(self):
        """(exit code, what was said), when nothing is left of it."""
        code = self.process.wait(PATIENCE)
        wait_for(lambda: not self.processes(), "no process is left")
        self.reader.join(PATIENCE)
        return code, "".join(self.said)

    def __exit__(self, *_):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(PATIENCE)
        expect(not any("Sanitizer" in line or "runtime error" in line for line in self.said), "no sanitizer's report")
        self.process.stderr.close()
        self.folder.cleanup()


def in_background(call, *arguments):
    """The call's thread and where its result comes."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call(*arguments)))
    thread.start()
    return thread, results
