"""A page in a headless Chromium, driven through DevTools over two pipes."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# Chromium looks for its pipes at 3 and 4.
_START = """
import os, sys
read, write = (os.dup(int(number)) for number in sys.argv[1:3])
for number, place in ((read, 3), (write, 4)):
    os.dup2(number, place)
    os.set_inheritable(place, True)  # if it was there already
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """An open page.

    Attributes:
        events: what the page said: exceptions, console and log entries, network requests.
    """

    def __init__(self, read, write):
        self._read, self._write, self._buffer, self._count = read, write, b"", 0
        self._session, self.events = {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Sends a command and returns its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self, seconds=60):
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], seconds)[0], "Chromium does not answer"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def run(self, script):
        """Returns the value of a JavaScript expression, promises awaited."""
        options = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition, seconds=30):
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"not true after {seconds} s: {condition}"
            time.sleep(0.02)

    def press(self, key, **options):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **options)


@contextlib.contextmanager
def chromium_page(folder):
    """Yields a page of a new Chromium whose profile is kept in `folder`."""
    to_us, its_write = os.pipe()
    its_read, to_it = os.pipe()

    command = [sys.executable, "-c", _START, str(its_read), str(its_write)]
    command += [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=(its_read, its_write), stderr=subprocess.DEVNULL)
    os.close(its_read)
    os.close(its_write)
    try:
        yield Page(to_us, to_it)
    finally:
        process.terminate()
        process.wait()
        os.close(to_us)
        os.close(to_it)
