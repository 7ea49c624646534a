"""Taking turns, on as many threads as pay, on a clock that the test moves."""
import pytest
import torch

from vitlab.measure.rounds import in_turns

CPU = torch.device("cpu")


class Machine:
    """Entries that take so long on so many threads."""

    def __init__(self, monkeypatch, cost, most):
        self.threads, self.cost, self.calls = most, cost, []
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(self, "threads", n))

    def run(self, name):
        self.calls.append((name, self.threads))
        return self.cost[name][self.threads]

    def entries(self):
        return {name: lambda name=name: self.run(name) for name in self.cost}


@pytest.mark.parametrize("cost, most, best", [
    ({"a": {2: 1.0, 1: 1.8}, "b": {2: 0.5, 1: 0.9}}, 2, 2),                # a quiet machine
    ({"a": {2: 9.0, 1: 1.8}, "b": {2: 0.5, 1: 0.9}}, 2, 1),                # a busy one: the whole round counts
    ({"a": {8: 4.0, 4: 2.0, 2: 1.5, 1: 2.5}}, 8, 2), ({"a": {1: 1.0}}, 1, 1)])
def test_the_round_is_run_on_as_many_threads_as_make_it_fastest(monkeypatch, cost, most, best):
    machine = Machine(monkeypatch, cost, most)
    times, threads = in_turns(machine.entries(), 5, CPU)
    assert threads == best
    assert times == {name: [own[best]] * 5 for name, own in cost.items()}
    assert machine.threads == most                                         # as it was
    assert machine.calls[-1] == (list(cost)[-1], best)


def test_a_graph_that_is_of_one_number_of_threads_is_timed_on_it(monkeypatch):
    machine = Machine(monkeypatch, {"a": {2: 9.0, 1: 1.8}}, 2)
    assert in_turns(machine.entries(), 5, CPU, fixed=True) == ({"a": [9.0] * 5}, 2)
    assert {threads for _, threads in machine.calls} == {2}


def test_turns_are_taken_round_by_round_after_one_that_warms_up(monkeypatch):
    machine = Machine(monkeypatch, {"a": {1: 1.0}, "b": {1: 2.0}}, 1)
    in_turns(machine.entries(), 3, CPU)
    assert [name for name, _ in machine.calls] == ["a", "b"] * 4


def test_few_rounds_other_devices_and_deterministic_runs_keep_their_threads(monkeypatch):
    cost = {"a": {2: 9.0, 1: 1.0}}
    assert in_turns(Machine(monkeypatch, cost, 2).entries(), 2, CPU)[1] == 2
    assert in_turns(Machine(monkeypatch, cost, 2).entries(), 5, torch.device("cuda"))[1] == 2
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert in_turns(Machine(monkeypatch, cost, 2).entries(), 5, CPU)[1] == 2


@pytest.mark.parametrize("after", range(1, 9))
def test_whoever_asks_is_heard_between_any_two_passes_and_the_threads_are_as_they_were(monkeypatch, after):
    machine = Machine(monkeypatch, {"a": {2: 9.0, 1: 1.0}, "b": {2: 1.0, 1: 1.0}}, 2)
    assert in_turns(machine.entries(), 9, CPU, stop=lambda: len(machine.calls) >= after) is None
    assert len(machine.calls) <= after + 1                                 # one more may wake the threads
    assert machine.threads == 2


def test_an_error_leaves_the_threads_as_they_were(monkeypatch):
    machine = Machine(monkeypatch, {"a": {2: 1.0}}, 2)                     # on one thread it has no time
    with pytest.raises(KeyError):
        in_turns(machine.entries(), 5, CPU)
    assert machine.threads == 2
