"""The counter of multiply-adds: the same whatever mode, precision and kernel a pass runs in, and nothing it counts unseen."""
import threading
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from samples import pictures
from torch import nn
from torch.backends import cuda, mha

import vitlab
from vitlab.measure import audit, cost, gmacs
from vitlab.measure.cost import check_counter, count, counted
from vitlab.trace import LayerTrace

MICRO = 12.776576e6         # of micro_patch8 by fvcore: see test below
MODES = {"plain": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode,
         "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}
KINDS = {"plain": {}, "causal": {"is_causal": True}, "scaled": {"scale": 0.5}, "dropout": {"dropout_p": 0.5},
         "bool mask": {"attn_mask": torch.ones(5, 5, dtype=torch.bool)}, "float mask": {"attn_mask": torch.zeros(5, 5)}}


@pytest.fixture(scope="module")
def net():
    return vitlab.create("dense", "micro_patch8", num_classes=10).eval()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
def test_attention_is_its_two_products(kind, mode, grad):
    with MODES[mode]():
        q = torch.zeros(3, 2, 5, 4, requires_grad=grad)
        assert counted(lambda: F.scaled_dot_product_attention(q, q, q, **KINDS[kind])) == 3 * 2 * 2 * 5 * 5 * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_attention_is_its_two_products_in_every_precision(dtype):
    q, mask = torch.zeros(1, 2, 5, 4, dtype=dtype), torch.zeros(5, 5, dtype=dtype)
    for kind in ({}, {"attn_mask": mask}):
        assert counted(lambda kind=kind: F.scaled_dot_product_attention(q, q, q, **kind)) == 400


def test_attention_between_unlike_lengths_and_widths_is_its_two_products():
    q, k, v = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 7, 4), torch.zeros(1, 2, 7, 6)
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * 3 * 7 * (4 + 6)


@pytest.mark.parametrize("mode", MODES)
def test_torchs_own_attention_module_hides_nothing(mode):
    """In evaluation without gradients it runs one kernel that torch's counter does not know."""
    layer, x = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.zeros(1, 5, 8)
    with MODES[mode]():
        assert counted(lambda: layer(x, x, x)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8


@pytest.mark.parametrize("mode", MODES)
def test_a_net_costs_the_same_in_every_mode(net, mode):
    with MODES[mode]():
        assert vitlab.gmacs(net, pictures(1))[0] * 1e9 == MICRO
        assert count(net, pictures(1), None) == MICRO


def test_fvcore_counts_the_same(net):
    assert audit(net, pictures(1))["core"] * 1e9 == pytest.approx(MICRO, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_net_costs_the_same_in_every_precision(dtype):
    net = vitlab.create("dense", "micro_patch8", num_classes=10).to(dtype)
    assert vitlab.gmacs(net, pictures(1))[0] * 1e9 == MICRO


def test_a_compiled_net_costs_the_same():
    torch._dynamo.reset()
    layer, x = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.zeros(1, 5, 8)
    compiled = torch.compile(lambda x: layer(x, x, x)[0], backend="eager")
    with torch.no_grad():
        compiled(x)
        assert counted(lambda: compiled(x)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    torch._dynamo.reset()


def test_counting_leaves_the_kernels_as_they_were(net):
    def switches():
        return (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), mha.get_fastpath_enabled())

    before = switches()
    vitlab.gmacs(net, pictures(1))
    assert switches() == before
    with pytest.raises(ZeroDivisionError):
        counted(lambda: 1 / 0)
    assert switches() == before


def test_two_threads_that_count_leave_the_kernels_as_they_were():
    """The first to begin is the first to end: each would restore what the other had set, and the last one the wrong thing."""
    before, first_is_in, second_tries = cuda.flash_sdp_enabled(), threading.Event(), threading.Event()
    assert before

    def first():
        first_is_in.set()
        second_tries.wait(5)
        second_runs.wait(0.2)

    def second():
        second_runs.set()
        one.join(5)

    second_runs = threading.Event()
    one = threading.Thread(target=counted, args=(first,))
    two = threading.Thread(target=lambda: (second_tries.set(), counted(second)))
    one.start()
    assert first_is_in.wait(5)
    two.start()
    one.join(10)
    two.join(10)
    assert second_runs.is_set() and not two.is_alive()
    assert cuda.flash_sdp_enabled() == before


class Liar(cost.FlopCounterMode):
    """A counter that does not know one kind of product."""

    blind = ""

    def get_total_flops(self):
        whole = self.get_flop_counts()["Global"]
        return sum(n for operation, n in whole.items() if self.blind not in str(operation))


@pytest.mark.parametrize(("blind", "what"), [("convolution", "a convolution"),
                                             ("addmm", "a linear layer"), ("bmm", "attention")])
def test_a_counter_that_lies_is_refused(net, monkeypatch, blind, what):
    monkeypatch.setattr(Liar, "blind", blind)
    monkeypatch.setattr(cost, "FlopCounterMode", Liar)
    check_counter.cache_clear()
    with pytest.raises(RuntimeError, match=f"torch .* counts {what} on cpu as 0 multiply-adds.*install another version"):
        vitlab.gmacs(net, pictures(1))
    with pytest.raises(RuntimeError):                       # and no second call slips through
        vitlab.gmacs(net, pictures(1))
    monkeypatch.undo()
    assert vitlab.gmacs(net, pictures(1))[0] * 1e9 == MICRO


def test_a_counter_that_counts_twice_is_refused_too(net, monkeypatch):
    monkeypatch.setattr(Liar, "get_total_flops", lambda self: 2 * cost_of(self))
    monkeypatch.setattr(cost, "FlopCounterMode", Liar)
    check_counter.cache_clear()
    with pytest.raises(RuntimeError, match="instead of 1344; costs would be wrong"):
        vitlab.gmacs(net, pictures(1))
    monkeypatch.undo()
    check_counter.cache_clear()


def cost_of(counter) -> int:
    return sum(counter.get_flop_counts()["Global"].values())


def test_the_counter_is_checked_once_for_each_kind_of_device(net, monkeypatch):
    check_counter.cache_clear()
    runs = []
    real = cost.counted
    monkeypatch.setattr(cost, "counted", lambda run: runs.append(run) or real(run))
    vitlab.gmacs(net, pictures(1))
    vitlab.gmacs(net, pictures(1))
    assert len(runs) == 4 + 2
    check_counter("meta")
    assert len(runs) == 4 + 2 + 4


class Ragged(nn.Module):
    """Images whose first pixel is 1 keep two tokens, the others one; alone an image may keep one more, as rounding has it."""

    adaptive = True

    def __init__(self, wavers: bool, told: int):
        super().__init__()
        self.layer, self.wavers, self.told = nn.Linear(4, 5), wavers, told

    def forward(self, images, point=None, trace=None):
        count = 1 + images[:, 0, 0, 0].long() + (self.wavers and len(images) == 1)             # [B]
        if trace is not None:
            there = torch.arange(4) < count[:, None]
            nothing = torch.zeros(len(images), 4)
            trace.layers.append(LayerTrace(0, 0, (2, 2), there, there, nothing, torch.ones(len(images))))
        return torch.cat([self.layer(torch.zeros(1, n, 4)).sum(1) for n in count.tolist()])

    def token_macs(self, trace):
        return self.told * trace.layers[0].attended.sum(1).double()


@pytest.mark.parametrize("wavers", [False, True])
def test_an_image_that_keeps_another_number_of_tokens_alone_is_told_as_in_its_batch(wavers):
    images = torch.zeros(3, 3, 2, 2)
    images[1, 0, 0, 0] = 1
    assert gmacs(Ragged(wavers, 4 * 5), images) == pytest.approx([20e-9, 40e-9, 20e-9])


def test_what_a_method_tells_of_its_tokens_is_checked():
    images = torch.zeros(2, 3, 2, 2)
    images[1, 0, 0, 0] = 1
    with pytest.raises(RuntimeError, match="reckons 39 multiply-adds for an image that takes 40"):
        gmacs(Ragged(False, 19), images)
