"""Bad arguments of every public function: one sentence each, from a line of vitlab that raises it; nothing is taken silently."""
import linecache
from pathlib import Path

import pytest
from arguments import ALLOWED, CALLS, KINDS, World

import vitlab

ROOT = str(Path(vitlab.__file__).parent)
KNOWN = (ValueError, TypeError, OSError, IndexError)
LONGEST = 400       # letters of a sentence


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def fault(error: BaseException) -> str | None:
    """What is wrong with an error, if it is not one sentence that a line of vitlab raised."""
    place = error.__traceback__
    while place.tb_next:
        place = place.tb_next
    file = place.tb_frame.f_code.co_filename
    said = f"{type(error).__name__}: {str(error)[:80]!r} at {Path(file).name}:{place.tb_lineno}"
    raised = file.startswith(ROOT) and linecache.getline(file, place.tb_lineno).strip().startswith("raise ")
    sentence = isinstance(error, KNOWN) and 0 < len(str(error)) < LONGEST and "\n" not in str(error)
    return None if raised and sentence else said


def bad(w, name):
    """Every bad argument of one call: (function, good arguments, argument, value)."""
    make, kinds = CALLS[name]
    function, good = make(w)
    for argument in {**good, **kinds}:
        for value in kinds.get(argument, KINDS.get(argument, lambda w: []))(w):
            yield function, good, argument, value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_good_arguments_are_taken(w, name):
    """Else the bad ones would be refused for another reason."""
    function, good = CALLS[name][0](w)
    found = function(**good)
    if hasattr(found, "close"):
        found.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments_get_one_sentence(w, name):
    wrong = []
    for function, good, argument, value in bad(w, name):
        reads = " ".join(repr(value).split())[:60]
        try:
            found = function(**{**good, argument: value})
        except Exception as error:
            wrong += [f"{argument}={reads}: {said}" for said in [fault(error)] if said]
        else:
            wrong += [] if (name, argument, reads) in ALLOWED else [f"{argument}={reads} was taken"]
            if hasattr(found, "close"):
                found.close()
    assert not wrong, "\n".join(wrong)


def test_hundreds_of_bad_arguments_are_tried(w):
    assert sum(1 for name in CALLS for _ in bad(w, name)) > 3_500


def test_every_public_function_is_called():
    """Of vitlab and of the rooms that name what is public; the parts that methods are made of are not people's doors."""
    inner = {"Trace", "METHODS", "Latency", "Rows", "Speed", "DetectionSet", "color_of", "Choice", "LengthTable", "RULES",
             "CRITERIA", "EVEN", "Stage", "Point", "confidence", "entropy", "random", "leaves", "outcomes", "run",
             "run_all", "straight", "sixteen_bit"}
    tried = {name.split("(")[0].split(".")[-1].split(" ")[0] for name in CALLS}
    rooms = [vitlab.data, vitlab.measure, vitlab.plots, vitlab.edge, vitlab.lengths, vitlab.cascade]
    public = {name for room in rooms for name in room.__all__} | set(dir(vitlab)) - set(vitlab.ROOMS)
    assert public - inner <= tried, public - inner - tried
