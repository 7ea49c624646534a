"""The governor's panel: the load starts and dies, a moved target is followed, stopping ends the thread, closing leaves none."""
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
import torch
from desk import QUICK
from ipywidgets.widgets import widget
from test_governor import POINTS, TABLE, World
from test_project import ROOT

import vitlab
from vitlab.governor import Governor
from vitlab.widgets import gauges, governed, load
from vitlab.widgets.door import LIVE
from vitlab.widgets.gauges import pace
from vitlab.widgets.load import Load
from vitlab.widgets.service import WINDOW, Service


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "vitlab-explorer"]


def gone(pid):
    """Has the process ended, waited for or not?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return True
        return False


def soon(condition, seconds=20):
    """Does it hold within so many seconds?"""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


# The load


def test_a_load_keeps_as_many_cores_busy_as_asked_and_ends_when_told():
    made = Load()
    made.start(2)
    pids = [process.pid for process in made.processes]
    assert made.cores == 2 and len(set(pids) - {os.getpid()}) == 2                      # really other processes
    made.start(1)
    assert made.cores == 1 and all(map(gone, pids))
    pids = [process.pid for process in made.processes]
    made.stop()
    assert made.cores == 0 and all(map(gone, pids))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc to look it up in")
def test_a_load_works():
    made = Load()
    made.start(1)

    def used():                                                                         # ticks of a processor
        with open(f"/proc/{made.processes[0].pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    assert soon(lambda: used() > 20)
    made.stop()


def test_a_load_ends_by_itself():
    made = Load(longest=0.3)
    made.start(1)
    assert made.cores == 1 and soon(lambda: made.cores == 0)
    assert made.processes[0].returncode == 0
    made.stop()


@pytest.mark.skipif(os.name == "nt", reason="who has lost its parent is told so on Unix alone")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_a_load_dies_with_its_kernel_however_that_ends(end):
    code = ("import sys, time; from vitlab.widgets.load import Load; made = Load(); made.start(2)\n"
            "print(*(p.pid for p in made.processes), flush=True); sys.stdin.read()")
    kernel = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pids = [int(pid) for pid in kernel.stdout.readline().split()]
    assert len(pids) == 2 and not any(map(gone, pids))
    kernel.stdin.close() if end is None else kernel.send_signal(end)
    kernel.wait(30)
    assert soon(lambda: all(map(gone, pids)))
    kernel.stdout.close()


# The service, on a clock that the test moves


@pytest.fixture
def service():
    """(a world, its service of ten images a batch at 90 images per second)."""
    world = World()

    def wait(seconds):
        world.time += seconds
        return False

    governor = Governor(world, TABLE, images_per_s=90.0, clock=lambda: world.time)
    return world, Service(governor, [torch.zeros(10, 3, 56, 56)], wait, lambda: int(world.busy > 1), lambda: world.time)


def served(world, service, seconds):
    """The moments of a while."""
    begin, found = world.time, []
    while world.time - begin < seconds:
        found.append(service.answer())
    return found


def test_what_is_reached_is_what_comes_as_long_as_a_point_can(service):
    world, service = service
    *_, now = served(world, service, 10)
    assert (now.point, now.top1, now.cores) == (POINTS[2], 90.0, 0)
    assert now.images_per_s == pytest.approx(90, rel=0.03) and now.seconds == pytest.approx(10, abs=0.3)
    world.busy = 1.8                                                                    # the best makes 55 now, the next 111
    *_, now = served(world, service, 10)
    assert (now.point, now.top1, now.cores, now.switches) == (POINTS[1], 80.0, 1, 1)
    assert now.images_per_s == pytest.approx(90, rel=0.05) and now.slower == pytest.approx(1.8, rel=0.05)


def test_what_nobody_can_reach_is_told_as_it_is(service):
    world, service = service
    world.busy = 8.0                                                                    # the fastest makes 50
    *_, now = served(world, service, 12)
    assert now.point == POINTS[0] and now.images_per_s == pytest.approx(50, rel=0.05)
    world.busy = 1.0
    served(world, service, WINDOW + 1)
    *_, now = served(world, service, 8)                                                 # nothing is left over from then
    assert now.images_per_s == pytest.approx(90, rel=0.05) and now.point == POINTS[2]


def test_a_moved_target_is_followed(service):
    world, service = service
    served(world, service, 5)
    for target, point in ((300.0, POINTS[0]), (150.0, POINTS[1]), (5.0, POINTS[2])):
        service.governor.target = target
        *_, now = served(world, service, 8)
        assert now.point == point and now.images_per_s == pytest.approx(target, rel=0.05)


def test_a_target_moved_while_nothing_comes_is_noticed_before_the_next_batch(service):
    world, service = service
    service.governor.target = 1.0                                                       # a batch in ten seconds
    served(world, service, 9)
    waits, world_waits = [], service.wait

    def wait(seconds):
        waits.append(seconds)
        service.governor.target = 90.0
        return world_waits(seconds)
    service.wait = wait
    begin = world.time
    service.answer()
    assert len(waits) <= 1 and world.time - begin < 0.5


def test_after_a_pause_it_counts_anew(service):
    world, service = service
    served(world, service, 5)
    world.time += 1000                                                                  # nobody answers
    service.pause()
    *_, now = served(world, service, 5)
    assert now.images_per_s == pytest.approx(90, rel=0.05) and now.seconds == pytest.approx(10, abs=0.6)
    assert len(service.governor.steps) == 1                                             # what it did is not kept for ever


def test_it_gives_up_waiting_when_told(service):
    world, service = service
    served(world, service, 1)
    service.wait = lambda seconds: True
    service.governor.target = 1.0
    assert service.answer() is None


# The panel


class Sleeper(World):
    """As fast as its table says, on the real clock."""

    made = {"image_size": 56, "num_classes": 10}

    def forward(self, images, point=None, trace=None):
        time.sleep(len(images) / governor_speed(point) * self.busy)
        return torch.zeros(len(images), 10)


def governor_speed(point):
    return {str(row.point): row.images_per_s for row in TABLE.itertuples()}[str(point)]


@pytest.fixture
def panel(monkeypatch):
    monkeypatch.setattr(governed, "OFTEN", 0.02)
    made = vitlab.govern(Sleeper(), vitlab.data.shapes("val", n=12), table=TABLE, batch=2)
    yield made
    made.close()


def stands(panel, **wanted):
    """Does the panel show this, soon?"""
    return soon(lambda: panel.result and all(panel.result[name] == value for name, value in wanted.items()))


def test_nothing_runs_before_it_is_asked_for(panel):
    before = len(threads())
    assert panel.wait(QUICK) and panel.result == {} and not panel.run.value
    assert "nobody answers now" in panel.view.who.value and len(threads()) == before
    assert (panel.target.min, panel.target.value, panel.target.max) == (10, 90, 481)   # of 100 to 400 images per second


def test_the_point_follows_the_target(panel):
    panel.set(target=40, run=True)                                                     # far from what a busy machine upsets
    assert stands(panel, point=POINTS[2]), panel.result
    panel.set(target=120)
    assert stands(panel, point=POINTS[1], target=120.0, top1=80.0), panel.result
    panel.target.value = 30                                                            # as a person does it
    assert stands(panel, point=POINTS[2], target=30.0), panel.result
    assert panel.wait(QUICK) and panel.result["switches"] >= 2
    assert "Point(length=7, keep=1)</b> answers now · 90.0 %" in panel.view.who.value
    assert "of 30.0 images/s" in panel.view.pace.value
    data = {trace.name: trace for trace in panel.view.figure.data}
    assert len(data["answered"].x) > 3 and len(data["switch"].x) == panel.result["switches"]
    assert set(data["target"].y) == {40.0, 120.0, 30.0} and set(data["top1"].y) >= {80.0, 90.0}


def test_pressing_run_again_ends_the_thread_and_the_load_and_never_waits(panel):
    before = len(threads())
    panel.set(run=True, load=True, cores=1)
    assert panel.wait(QUICK) and len(threads()) == before + 1 and panel.other.cores == 1
    begin = time.monotonic()
    panel.run.value = False
    assert time.monotonic() - begin < 0.5
    assert not panel.load.value and panel.other.cores == 0
    assert soon(lambda: len(threads()) == before)
    shown = panel.shown
    time.sleep(0.2)
    assert panel.shown == shown
    assert panel.set(run=True).wait(QUICK) and len(threads()) == before + 1             # and it goes on


def test_a_load_is_shown_while_it_lasts_and_is_let_go_when_its_time_is_over(panel):
    panel.other.longest = 0.6
    panel.set(load=True)                                                               # which runs, too
    assert panel.run.value and stands(panel, cores=panel.cores.value)
    assert soon(lambda: not panel.load.value) and stands(panel, cores=0)
    assert panel.run.value and len(panel.view.figure.layout.shapes) == 1


def test_a_load_that_takes_long_to_start_is_not_taken_for_one_that_is_over(panel, monkeypatch):
    def slow(*args, popen=subprocess.Popen, **options):
        time.sleep(0.3)                                                                # batches are answered meanwhile
        return popen(*args, **options)
    panel.set(target=120, run=True)
    assert stands(panel, target=120.0)
    monkeypatch.setattr(load.subprocess, "Popen", slow)
    for cores in (1, len(panel.cores.options), 1):                                     # and not when it gets other cores
        panel.set(load=True, cores=cores)
        assert stands(panel, cores=cores) and panel.load.value


def test_a_panel_that_nobody_touches_rests(panel, monkeypatch):
    monkeypatch.setattr(governed, "LONGEST", 0.3)
    before = len(threads())
    panel.set(run=True)
    assert soon(lambda: not panel.run.value) and soon(lambda: len(threads()) == before)
    assert "at rest" in panel.view.note.value and panel.last_error is None


def test_closing_leaves_no_thread_process_or_widget_behind(monkeypatch):
    before, count = len(threads()), len(widget._instances)
    made = vitlab.govern(Sleeper(), vitlab.data.shapes("val", n=12), table=TABLE, batch=2)
    assert made.set(load=True).wait(QUICK)
    pids = [process.pid for process in made.other.processes]
    assert pids and len(widget._instances) > count
    made.close()
    assert soon(lambda: len(threads()) == before) and all(map(gone, pids))
    assert len(widget._instances) == count
    assert not made.wait(1)
    with pytest.raises(ValueError, match="this panel is closed"):
        made.set(run=True)


def test_python_ends_quietly_with_a_panel_at_work():
    program = """if True:
        import vitlab
        net = vitlab.create("supervit", "micro_patch8", num_classes=10)
        panel = vitlab.govern(net, vitlab.data.shapes("val", n=16), batch=4)
        assert panel.wait(120) and panel.set(run=True, load=True, cores=1).wait(120), panel.last_error
        print(panel.other.processes[0].pid)"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert soon(lambda: gone(int(ended.stdout)))


def test_a_panel_of_the_same_name_takes_the_place_of_the_first():
    made = [vitlab.govern(Sleeper(), vitlab.data.shapes("val", n=12), table=TABLE, batch=2, name="twice") for _ in range(2)]
    assert made[0].closed and not made[1].closed and LIVE["twice"] is made[1]
    LIVE.pop("twice").close()


def test_without_a_table_it_measures_one_in_its_own_thread():
    torch.manual_seed(0)
    net, data = vitlab.create("supervit", "micro_patch8", num_classes=10), vitlab.data.shapes("val", n=8)
    net.train()
    made = vitlab.govern(net, data, batch=2)
    with pytest.raises(ValueError, match="still measuring"):
        made.set(run=True)
    assert made.run.disabled and made.wait(QUICK), made.last_error
    assert set(made.service.governor.known) == set(net.points) and f"{len(net.points)} points measured" in made.view.note.value
    assert made.set(run=True).wait(QUICK), made.last_error
    assert made.result["point"] in net.points and made.result["images_per_s"] > 0
    assert net.training and not made.method.training                                    # it works on a copy
    made.close()


def test_a_panel_closed_while_it_measures_ends_too():
    before = len(threads())
    made = vitlab.govern(Sleeper(), vitlab.data.shapes("val", n=12), batch=2)
    made.close()
    assert soon(lambda: len(threads()) == before)


def test_an_error_is_one_red_sentence_and_rest(panel, monkeypatch):
    def fails(images):
        raise ValueError("the net is broken; load it again")
    panel.service.governor.method.forward = lambda *asked: fails(asked[0])
    panel.set(run=True)
    assert soon(lambda: panel.last_error) and panel.last_error == "the net is broken; load it again"
    assert not panel.wait(1) and not panel.run.value and "vl-failed" in panel.view.note.value


@pytest.mark.parametrize("values, words", [
    ({"target": 0}, "target must be a number in"), ({"target": 10 ** 9}, "target must be"), ({"target": True}, "target must be"),
    ({"run": 1}, "run must be True or False"), ({"load": "yes"}, "load must be True or False"), ({"cores": 0}, "cores must be"),
    ({"cores": 10 ** 6}, "cores must be"), ({"speed": 3}, "it has target, cores, load, run"),
    ({"target": 20, "run": None}, "run must be")], ids=str)
def test_a_refused_set_has_moved_nothing(panel, values, words):
    with pytest.raises(ValueError, match=words):
        panel.set(**values)
    assert panel.target.value == 90 and not panel.run.value and not panel.load.value


def test_grey_is_where_others_keep_cores_busy():
    def row(seconds, cores):
        return gauges.Moment(seconds, 1.0, 1.0, POINTS[0], 1.0, 1.0, 1.0, 1, cores, 0)
    assert gauges.spans([row(0, 0), row(1, 2), row(2, 2), row(3, 0), row(4, 0), row(5, 1)]) == [(1, 3), (5, 5)]
    assert gauges.spans([row(0, 0)]) == []
    assert gauges.named(vitlab.DVT.Point((0.6284645795822144, 1.0))) == "Point(thresholds=0.628 / 1)"
    assert (gauges.counted(1, "switch", "switches"), gauges.counted(2, "switch", "switches"), gauges.counted(2, "thread")) == (
        "1 switch", "2 switches", "2 threads")


def test_a_minute_of_short_batches_is_drawn_in_few_points_and_no_switch_is_lost():
    view = gauges.Gauges()
    moments = [gauges.Moment(n / 100, 1.0 + (n > 3000), 1.0, POINTS[n in (700, 2500, 2501)], 1.0, 1.0, 1.0, 1, int(n > 4000), 0)
               for n in range(9000)]
    for begin in range(0, 9000, 40):
        view.show(moments[begin:begin + 40])
    data = {trace.name: trace for trace in view.figure.data}
    assert len(view.past) < 400 and view.past[0].seconds >= 89.99 - gauges.MINUTE
    assert data["switch"].x == ()                                                      # every one is more than a minute ago
    view = gauges.Gauges()
    for begin in range(0, 6000, 40):
        view.show(moments[begin:begin + 40])
    data = {trace.name: trace for trace in view.figure.data}
    assert data["switch"].x == (7.0, 7.01, 25.0, 25.02) and [band.x0 for band in view.figure.layout.shapes] == [40.01]
    assert data["target"].x[list(data["target"].y).index(2.0)] == 30.01
    view.rest()


def test_a_table_of_another_net_is_refused_before_anything_is_made():
    count = len(widget._instances)
    with pytest.raises(ValueError, match="no row of the table"):
        vitlab.govern(Sleeper(), vitlab.data.shapes("val", n=4), table=pd.DataFrame(
            {"point": ["x"], "top1": [1.0], "images_per_s": [1.0]}))
    assert len(widget._instances) == count
    assert load.cores() >= 1


@pytest.mark.parametrize("slower, told", [(3.46, "3.5 times as slow as"), (1.04, "as fast as"), (0.97, "as fast as"),
                                          (0.8, "1.2 times as fast as")])
def test_a_machine_that_is_faster_is_not_called_slow(slower, told):
    assert pace(slower) == told
