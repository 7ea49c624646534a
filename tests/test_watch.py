"""Processes that train together end together: who is silent is missed, who is only slow is not. Real ones are in tests/faults."""
import time

import pytest
import torch
from accelerate import PartialState

from vitlab.train import watch
from vitlab.train.watch import Watch, together


@pytest.fixture
def ended(monkeypatch):
    """Exit statuses of processes that would have ended; beats are quick, and all meet in one store."""
    found, store = [], torch.distributed.HashStore()
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "SILENCE", 1.0)
    monkeypatch.setattr(watch, "meeting", lambda own, count: store)
    monkeypatch.setattr(watch.os, "_exit", found.append)
    return found


def test_who_beats_is_left_alone_and_who_stops_is_missed(ended, capfd):
    first, second = Watch(0, 2), Watch(1, 2)
    time.sleep(1.5)
    assert not ended
    second.stop()
    deadline = time.monotonic() + 30
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
    first.stop()
    assert ended[0] == 1
    said = capfd.readouterr().err
    assert "process 1 of this training has not answered for 1 s, so this one ends too; start all of them again" in said


def test_a_store_that_does_not_answer_is_the_first_process_gone(ended, capfd, monkeypatch):
    class Frozen:
        def set(self, *_):
            raise torch.distributed.DistNetworkError("connection reset")

    monkeypatch.setattr(watch, "meeting", lambda own, count: Frozen())
    third = Watch(2, 3)
    deadline = time.monotonic() + 30
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
    third.stop()
    assert "process 0 of this training has not answered" in capfd.readouterr().err


def test_one_process_is_watched_by_nobody(ended, monkeypatch):
    monkeypatch.setattr(watch, "Watch", None)
    with together(PartialState(cpu=True)):
        pass


@pytest.mark.parametrize(("error", "told"), [
    (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"), "another process of this training has ended"),
    (torch.distributed.DistBackendError("ncclRemoteError"), "another process of this training has ended"),
    (RuntimeError("shapes do not match"), "shapes do not match"), (ValueError("lower lr"), "lower lr")])
def test_a_collective_that_breaks_is_said_in_a_sentence_and_other_errors_stay(ended, error, told):
    class Two:
        num_processes, process_index = 2, 0
        wait_for_everyone = staticmethod(lambda: None)

    with pytest.raises(type(error) if told in str(error) else RuntimeError, match=told), together(Two()):
        raise error
