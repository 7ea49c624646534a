"""Token lengths spread over processes: the same gradients as one process, and what that promises."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import pictures

import vitlab
from vitlab import checkpoint
from vitlab.methods.revit import PAPER
from vitlab.train.processes import processes
from vitlab.train.replicas import Replicas, balanced, training_cost

ROOT = Path(__file__).resolve().parents[1]
DEIT_SMALL = {14: 4.5989, 10: 2.2999, 7: 1.1429}            # multiply-adds / 1e9
SPLITS = [((7,), (5,), (4,)), ((7,), (5, 4)), ((7, 4), (5,))]
RECIPE = vitlab.Recipe(steps=3, batch=4, clip=1.0, ema=0.9, mixup=0.5)


def net():
    torch.manual_seed(0)
    return vitlab.create("revit", "micro_patch8", num_classes=10, **PAPER)


def batch():
    torch.manual_seed(1)
    return pictures(4), torch.arange(4)


def data():
    torch.manual_seed(2)
    return vitlab.data.ImageSet("noise", range(10), torch.arange(12) % 10,
                                torch.randint(0, 256, (12, 56, 56, 3), dtype=torch.uint8), 56)


def gradients(split, out):
    """One process's part of a step; the sum, and what was lost, are written by the first one."""
    accelerator, method, (images, labels) = processes(), net(), batch()
    for parameter in method.parameters():
        parameter.grad = torch.zeros_like(parameter)
    replicas, names, loss = Replicas(split, method, accelerator), [], 0.0
    for part in method.losses(images, labels, **replicas.step(method, images, labels)):
        sum(part.values()).backward()
        names, loss = [*names, *part], loss + sum(part.values()).item()
    assert {int(name.split("_")[1]) for name in names} == set(replicas.mine)
    (total,) = replicas.total(accelerator, method, [loss])
    if accelerator.is_main_process:
        found = {name: p.grad for name, p in method.named_parameters()}
        checkpoint.write(out / "gradients.safetensors", found, {"loss": total})
    vitlab.fit(net(), data(), RECIPE, val=data(), out=out / "fit", replicas=split)
    if accelerator.num_processes == 2:
        other = images + accelerator.process_index
        try:
            list(method.losses(other, labels, **replicas.step(method, other, labels)))
        except ValueError as error:
            (out / f"refused{accelerator.process_index}").write_text(str(error))


SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_replicas as t
import torch.multiprocessing as mp

def work(rank, split, out, port):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(split)),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    t.torch.set_num_threads(1)
    t.gradients(split, Path(out))

if __name__ == "__main__":
    import socket
    for number, split in enumerate(t.SPLITS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        out = Path(sys.argv[2]) / str(number)
        out.mkdir()
        mp.start_processes(work, (split, str(out), port), len(split), start_method="fork")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What two and three gloo processes made of one step and of a short training run, by split."""
    folder = tmp_path_factory.mktemp("replicas")
    (folder / "run.py").write_text(SCRIPT)
    alone = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, folder / "run.py", Path(__file__).parent, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | alone, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return {split: folder / str(number) for number, split in enumerate(SPLITS)}


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_replicas_sum_to_the_serial_gradients(trained, split):
    method, (images, labels), loss = net(), batch(), 0.0
    for part in method.losses(images, labels):
        sum(part.values()).backward()
        loss += sum(part.values()).item()
    facts, found = checkpoint.contents(trained[split] / "gradients.safetensors")
    assert facts["loss"] == pytest.approx(loss, rel=1e-6)
    largest = max(p.grad.abs().max() for p in method.parameters())
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-6 * largest.item())


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_fit_over_replicas_is_fit_in_one_process(trained, split, tmp_path):
    history = vitlab.fit(net(), data(), RECIPE, val=data(), out=tmp_path / "one")
    facts, many = checkpoint.read(trained[split] / "fit" / "last.safetensors")
    one = checkpoint.read(tmp_path / "one" / "last.safetensors")[1]
    gaps = torch.cat([(many[name] - one[name]).abs().flatten() for name in one])
    assert (gaps > 2e-5).float().mean() < 1e-4          # AdamW turns the rounding of a zero gradient into a step of its own
    assert gaps.max() < RECIPE.lr * RECIPE.steps
    assert (facts["processes"], facts["replicas"]) == (len(split), json.loads(json.dumps(split)))
    for there, here in zip(facts["history"], history.to_dict("records"), strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-5)
        assert there["kl_4"] == pytest.approx(here["kl_4"], rel=1e-4)
        assert there["val_top1"] == here["val_top1"] if "val_top1" in there else True


@pytest.mark.slow
def test_another_batch_is_refused(trained):
    for number in (0, 1):
        assert "process 1 has another batch than the first one" in (trained[SPLITS[1]] / f"refused{number}").read_text()


def test_one_process_may_run_all_lengths():
    plain, spread = (vitlab.fit(net(), data(), RECIPE, replicas=replicas) for replicas in (None, ((7, 5, 4),)))
    assert spread.loss.tolist() == pytest.approx(plain.loss.tolist(), rel=1e-6)


def test_the_cost_model_is_the_papers_and_the_balanced_split_is_better():
    frame = training_cost(DEIT_SMALL).set_index("split")
    assert list(frame.index) == ["14+10+7", "14 | 10+7", "14 | 10 | 7"]
    assert frame.work.tolist() == pytest.approx([1.749] * 3, abs=1e-3)
    assert frame.wall.tolist() == pytest.approx([1.749, 1.0, 1.0], abs=1e-3)
    assert frame.efficiency.tolist() == pytest.approx([1.0, 0.874, 0.583], abs=1e-3)
    assert balanced(DEIT_SMALL, 2) == ((14,), (10, 7))
    assert balanced({8: 4, 6: 3, 5: 2, 4: 2}, 2) == ((8, 4), (6, 5))


@pytest.mark.parametrize(("split", "words"), [
    (((7,), (5, 4)), "replicas are 2 groups of lengths but 1 processes run"),
    (((7, 5),), r"replicas must hold each length of \(7, 5, 4\) once, 7 in the first group"),
    (((7, 5, 5, 4),), "replicas must hold each length"), (((5,), (7, 4)), "7 in the first group"),
    (((7, 5, 4), ()), "replicas are 2 groups of lengths but 1 processes"),
])
def test_a_split_that_makes_no_sense_gets_one_sentence(split, words):
    with pytest.raises(ValueError, match=words):
        vitlab.fit(net(), data(), RECIPE, replicas=split)


def test_only_a_net_with_lengths_can_be_spread():
    method = vitlab.create("supervit", "micro_patch8", num_classes=10)
    with pytest.raises(ValueError, match="a SuperViT has no token lengths to spread over processes"):
        vitlab.fit(method, data(), RECIPE, replicas=((7,),))
    with pytest.raises(ValueError, match="3 lengths keep 1 to 3 processes busy, not 4"):
        balanced(DEIT_SMALL, 4)
