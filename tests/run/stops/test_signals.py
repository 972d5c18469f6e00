"""What a process does about signals, apart from runs: at once, once it may, or the second time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from ssl_lightning.run.stops.signals import SIGNALS, TOGETHER, Stopped, current, listening

pytestmark = pytest.mark.usefixtures("heeded_signals")


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_with_its_code_and_handlers_are_restored(signum: int, capsys: Any) -> None:
    before, threads = [signal.getsignal(each) for each in SIGNALS], threading.active_count()
    with pytest.raises(SystemExit) as raised, listening():
        kill(signum)
    assert raised.value.code == 128 + signum
    assert capsys.readouterr().err == f"Stopped by {signal.Signals(signum).name}.\n"
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert current() is None and threading.active_count() == threads


def test_a_signal_that_is_swallowed_is_not_forgotten() -> None:
    with pytest.raises(Stopped), listening() as listener:
        try:
            kill(signal.SIGTERM)
        except BaseException:
            assert listener.noted == signal.SIGTERM


def test_a_deferred_signal_is_noted() -> None:
    with pytest.raises(Stopped), listening() as listener:
        listener.deferred = True
        kill(signal.SIGHUP)
        assert listener.noted == signal.SIGHUP


def test_a_handler_of_the_user_is_called_and_stays() -> None:
    heard: list[int] = []
    handler = lambda signum, frame: heard.append(signum)  # noqa: E731
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Stopped), listening(), listening():
            kill(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """SIGHUP under nohup, SIGINT in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            kill(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_installed() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), list[Any]()

    def look() -> None:
        with listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


WAITS = f"""
import multiprocessing, signal, sys, time
sys.path.insert(0, {os.getcwd()!r})
from ssl_lightning.run.stops.signals import listening

def work():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)

with listening() as listener:
    listener.deferred = True
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    print(child.pid, flush=True)
    lock = multiprocessing.get_context("fork").Lock()
    lock.acquire()
    while True:
        lock.acquire(timeout=60)  # returns for no signal: in C
"""


def test_the_second_signal_ends_at_once_with_what_was_started() -> None:
    """Those that come together count as one."""
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    child = int(process.stdout.readline())
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    time.sleep(TOGETHER)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    assert process.stderr.read() == "Stopped at once by SIGTERM.\n"
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(child, 0)
            time.sleep(0.05)
