"""Something that keeps cores busy, so that one can see what a net does beside it."""
import atexit
import os
import subprocess
import sys
import threading

LONGEST = 60.0              # seconds after which it ends by itself
BUSY = """
import os, sys, time
parent, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while os.getppid() == parent and time.monotonic() < end:
    sum(range(100_000))
"""


class Load:
    """Other processes, each of which keeps one core busy; they end when told to, with this process however it ends, and after
    `longest` seconds."""

    def __init__(self, longest: float = LONGEST):
        self.longest, self.processes = longest, []
        self.changing = threading.Lock()                        # one starts or stops at a time, in whichever thread

    def start(self, cores: int) -> None:
        """Keep so many cores busy from now on, instead of as many as were."""
        command = [sys.executable, "-I", "-S", "-c", BUSY, str(os.getpid()), str(self.longest)]
        with self.changing:
            self.end()
            atexit.register(self.stop)
            for _ in range(cores):
                self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    @property
    def cores(self) -> int:
        """How many are kept busy now."""
        return sum(process.poll() is None for process in self.processes)

    @property
    def over(self) -> bool:
        """Were some kept busy, and has the time of all of them ended by itself? False while they are being started or stopped."""
        processes = self.processes
        return bool(processes) and all(process.poll() is not None for process in processes)

    def stop(self) -> None:
        """End them at once."""
        with self.changing:
            self.end()

    def end(self) -> None:
        """The same, for one who holds the lock."""
        atexit.unregister(self.stop)
        processes, self.processes = self.processes, []
        for process in processes:
            process.kill()
            process.wait()


def cores() -> int:
    """As many cores as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
