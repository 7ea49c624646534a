"""As many threads as pay: what is kept where two are faster, where they collapse, and where that changes."""
import pytest
import torch
from test_train import EVERYTHING, blobs, coin, same

from vitlab.threads import HOLD, IN_A_ROW, Threads, as_pays
from vitlab.train import fit

TRIAL = 7               # steps in which one of two numbers is found, at most


class Machine:
    """A clock that moves by what a step costs on so many threads."""

    def __init__(self, cost, most, **more):
        self.cost, self.now, self.used = cost, 0.0, []
        self.threads = Threads(most, use=self.used.append, clock=lambda: self.now, **more)

    def run(self, steps):
        """The number of threads of each step."""
        seen = []
        for _ in range(steps):
            with self.threads.step():
                seen.append(self.threads.now)
                self.now += self.cost[self.threads.now]
        return seen


@pytest.mark.parametrize(("cost", "best"), [({2: 1.0, 1: 1.8}, 2), ({2: 10.0, 1: 1.8}, 1), ({2: 1.0, 1: 1.0}, 1)])
def test_of_two_threads_the_faster_number_is_kept(cost, best):
    machine = Machine(cost, 2)
    machine.run(TRIAL)
    assert set(machine.run(5)) == {best}


def test_few_threads_come_first_and_a_close_race_is_run_twice():
    assert Machine({2: 5.0, 1: 1.8}, 2).run(8) == [1, 1, 2, 2, 1, 1, 1, 1]
    assert Machine({2: 1.0, 1: 1.8}, 2).run(9) == [1, 1, 2, 2, 2, 1, 1, 2, 2]
    assert Machine({2: 1.0, 1: 0.9}, 2).run(9) == [1, 1, 2, 2, 2, 1, 1, 1, 1]


def test_one_lucky_step_does_not_win():
    machine = Machine({2: 1.0, 1: 1.8}, 2)
    machine.run(4)
    machine.cost = {2: 3.0, 1: 1.8}                                        # the second step of two threads was in luck
    machine.run(TRIAL - 4)
    assert set(machine.run(4)) == {1}


def test_of_many_threads_halves_are_tried_as_long_as_they_are_faster():
    machine = Machine({16: 8.0, 8: 3.0, 4: 2.0, 2: 4.0, 1: 8.0}, 16)
    assert set(machine.run(20)) == {16, 8, 4, 2}                            # one thread is not tried: two are slower than four
    assert machine.threads.now == 4


def test_a_hopeless_number_is_tried_for_one_step():
    machine = Machine({2: 9.0, 1: 1.8}, 2)
    assert machine.run(5) == [1, 1, 2, 1, 1]


def test_a_machine_that_becomes_busy_is_noticed_and_one_that_becomes_free_again_too():
    machine = Machine({2: 1.0, 1: 1.8}, 2)
    machine.run(TRIAL)
    machine.cost = {2: 12.0, 1: 2.0}
    assert set(machine.run(IN_A_ROW + TRIAL + 3)[-3:]) == {1}
    machine.cost = {2: 1.0, 1: 1.8}
    assert machine.run(round(4 * HOLD))[-1] == 2


def test_trials_become_rare_where_nothing_changes():
    machine = Machine({2: 1.0, 1: 1.8}, 2)
    seen = machine.run(2000)
    assert 0 < seen.count(1) < 0.03 * len(seen)


@pytest.mark.parametrize("most", [1, 4])
def test_threads_that_must_not_change_do_not(most):
    machine = Machine({1: 1.0, 4: 9.0}, most, fixed=most == 4)
    assert set(machine.run(50)) == {most}
    assert machine.used == []


def test_a_run_gives_torch_its_threads_back_and_a_deterministic_one_keeps_them():
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), as_pays(torch.device("cpu")) as threads:
            assert not threads.fixed
            torch.set_num_threads(1)
            1 / 0
        assert torch.get_num_threads() == 2
        torch.use_deterministic_algorithms(True)
        with as_pays(torch.device("cpu")) as threads:
            assert threads.fixed
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)


def test_a_run_says_how_many_threads_it_ended_with():
    torch.set_num_threads(2)
    try:
        several = fit(coin(), blobs(24), EVERYTHING).attrs["note"]
    finally:
        torch.set_num_threads(1)
    assert " of 2 threads" in several
    one, other = coin(), coin()
    assert "thread" not in fit(one, blobs(24), EVERYTHING).attrs["note"]
    fit(other, blobs(24), EVERYTHING)
    assert same(one, other)
