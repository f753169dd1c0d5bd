"""Commands that tests start as processes of their own."""

import os
import subprocess
import sys

# A suite that runs in the background was started with Ctrl-C ignored, and hands that on.
_HEED_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(*arguments, own_session=False, **environment):
    """Starts Python with some arguments, so that it heeds Ctrl-C; its output is piped."""
    return subprocess.Popen(
        [sys.executable, "-c", _HEED_CTRL_C, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **environment},
        start_new_session=own_session,
    )
