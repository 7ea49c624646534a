"""A real JupyterLab and a real Chromium for the browser test."""
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")
SETTINGS = {"apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "docmanager-extension/plugin": {"autosave": False}}


def missing() -> str | None:
    """Why there can be no browser test here; None if there can."""
    try:
        import jupyterlab  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    return None if chromium() else "no Chromium or Chrome is on the PATH"


def chromium() -> str | None:
    """The browser's path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    address: str
    token: str

    def page(self, notebook: str) -> str:
        """Where a browser opens a notebook."""
        return f"{self.address}/lab/tree/{notebook}.ipynb?token={self.token}&reset"

    def kernels(self) -> list[str]:
        """The kernels that run."""
        return [kernel["id"] for kernel in json.loads(self.ask("GET", "kernels"))]

    def end_kernels(self, seconds: float = 60) -> None:
        """Shut them all down; one that is just being started again refuses until it runs."""
        end = time.monotonic() + seconds
        while (running := self.kernels()) and time.monotonic() < end:
            for kernel in running:
                with suppress(urllib.error.HTTPError):
                    self.ask("DELETE", f"kernels/{kernel}")
            time.sleep(0.1)

    def ask(self, method: str, what: str) -> bytes:
        """The answer of the server's interface."""
        request = urllib.request.Request(f"{self.address}/api/{what}", method=method,
                                         headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


@contextmanager
def jupyter(folder: Path, home: Path):
    """A JupyterLab that serves `folder` and keeps all its settings in `home`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, places = secrets.token_hex(16), {}
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
                 "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR"):
        places[name] = str(home / name.lower())
        Path(places[name]).mkdir(parents=True)
    for name, settings in SETTINGS.items():
        file = home / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
               "--allow-root", "--LabApp.news_url=None",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
               "--LabApp.expose_app_in_browser=True", "--KernelManager.shutdown_wait_time=0.5"]       # seconds
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **places, "PYTHONPATH": path}, stdout=log, stderr=log,
                                  start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            ready(f"{address}/api/status?token={token}", server, home / "server.log")
            yield Lab(address, token)
        finally:
            stop(server)


def ready(address: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended at once: {log.read_text()[-2000:]}")
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"JupyterLab did not answer within {seconds} s: {log.read_text()[-2000:]}")


def stop(server: subprocess.Popen) -> None:
    """End the server with its kernels: all processes of the session that we started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
    server.wait()


@contextmanager
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield window
        finally:
            window.close()
