"""A net in a folder: what is written is read again, by people, by programs and by vitlab; the hub is imitated."""
import inspect
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError
from samples import pictures

import vitlab
from vitlab import sharing

REAL = {name: inspect.signature(getattr(huggingface_hub.HfApi, name)) for name in ("create_repo", "upload_folder")}
REAL["snapshot_download"] = inspect.signature(huggingface_hub.snapshot_download)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = vitlab.create("supervit", "micro_patch8", classes=vitlab.data.shapes("val", n=12).classes).eval()
    net.facts = {"made": net.made, "recipe": {"steps": 3}, "commit": "0123abc", "versions": {"vitlab": "0.0.9"}, "checksum": "f"}
    return net


@pytest.fixture(scope="module")
def sweep(net):
    return vitlab.sweep(net, vitlab.data.shapes("val", n=12), points=net.points[:2], batch=4, rounds=1)


def test_a_folder_is_read_again_as_the_net_it_was(net, sweep, tmp_path):
    place = vitlab.push(net, tmp_path / "deep" / "net", metrics=sweep, licence="apache-2.0", dataset="shapes")
    assert sorted(path.name for path in Path(place).iterdir()) == ["README.md", "card.json", "net.safetensors"]
    again, images = vitlab.pull(place), pictures(2)
    with torch.no_grad():
        assert torch.equal(again(images), net(images))
    assert not again.training and again.made == {**net.made, "knobs": {}}
    card = json.loads((Path(place) / "card.json").read_text())
    assert card == {name: fact for name, fact in again.facts.items() if name != "checksum"}
    assert card["classes"] == net.made["classes"] and card["licence"] == "apache-2.0" and card["dataset"] == "shapes"
    assert card["recipe"] == {"steps": 3} and card["commit"] == "0123abc"           # of the training, not of who pushes
    assert [point["length"] for point in card["points"]] == [point.length for point in net.points]
    assert card["preprocessing"] == vitlab.data.picture.USUAL.facts()
    assert [row["top1"] for row in card["metrics"]] == sweep.top1.tolist()
    assert card["metrics"][0]["source"] == sweep.source[0]


def test_the_page_tells_people_the_same(net, sweep, tmp_path):
    told = (Path(vitlab.push(net, tmp_path / "net", metrics=sweep)) / "README.md").read_text()
    header, text = told.split("---\n")[1:]
    assert "license: mit" in header and "tags: [vitlab, supervit" in header
    row = next(line for line in text.splitlines() if line.startswith(f"| {sweep.point[0]}"))
    assert f" {sweep.gmacs[0]:.4g} " in row
    for part in ("# supervit on micro_patch8 (10 classes, 56 px)", ", ".join(net.made["classes"]), '{"steps": 3}',
                 "commit 0123abc", "Licence: mit"):
        assert part in text
    assert "(None" not in text and "nan" not in text


def test_a_net_of_which_nothing_was_measured_lists_its_points(tmp_path):
    torch.manual_seed(0)
    plain = vitlab.create("dense", "micro_patch8", 10)
    told = (Path(vitlab.push(plain, tmp_path / "net", metrics={"top1": 91.0})) / "README.md").read_text()
    assert "| Point() |" in told and "10, without names" in told and 'Measured: {"top1": 91.0}' in told
    assert plain.training
    vitlab.push(vitlab.pull(tmp_path / "net"), tmp_path / "again")
    assert vitlab.pull(tmp_path / "again").facts["metrics"] == {"top1": 91.0}


def test_pushing_twice_replaces_and_a_failure_leaves_what_was_there(net, tmp_path):
    place = Path(vitlab.push(net, tmp_path / "net"))
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(ValueError, match="a function cannot be written"):
        vitlab.push(net, place, odd=lambda: 3)
    with pytest.raises(ValueError, match="points is told by the net itself"):
        vitlab.push(net, place, points=3)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    vitlab.push(net, place, note="second")
    assert vitlab.pull(place).facts["note"] == "second"


# The hub, imitated: calls must be such as the real functions take

class Hub:
    def __init__(self, folder, error=None):
        self.folder, self.error, self.private = folder, error, None

    def create_repo(self, *args, **told):
        bound = REAL["create_repo"].bind(self, *args, **told).arguments
        if self.error:
            raise self.error
        self.private = bound["private"]
        return f"https://huggingface.co/{bound['repo_id']}"

    def upload_folder(self, *args, **told):
        bound = REAL["upload_folder"].bind(self, *args, **told).arguments
        shutil.copytree(bound["folder_path"], self.folder / bound["repo_id"], dirs_exist_ok=True)

    def snapshot_download(self, *args, **told):
        bound = REAL["snapshot_download"].bind(*args, **told).arguments
        if self.error:
            raise self.error
        assert bound["allow_patterns"] == ["net.safetensors", "card.json", "README.md"] and bound["local_files_only"] is False
        return str(self.folder / bound["repo_id"])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    there = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sharing, "reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: there)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.snapshot_download)
    return there


def answered(kind, words):
    """An error of the hub; what it is made from differs from version to version."""
    error = kind.__new__(kind)
    Exception.__init__(error, words)
    return error


def test_a_net_goes_to_the_hub_and_comes_back(net, hub):
    assert vitlab.push(net, "hf://me/net") == "https://huggingface.co/me/net"
    assert hub.private is True
    vitlab.push(net, "hf://me/open", private=False)
    assert hub.private is False
    again, images = vitlab.pull("hf://me/net"), pictures(1)
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


@pytest.mark.parametrize("error", [answered(HfHubHTTPError, "403 Forbidden\nmore"), answered(LocalTokenNotFoundError, "none")])
def test_who_may_not_write_is_told_to_sign_in(net, hub, error):
    hub.error = error
    with pytest.raises(PermissionError, match=r"may not write to me/net \((403 Forbidden|none)\); sign in with `hf auth login`"):
        vitlab.push(net, "hf://me/net")


def test_what_is_not_on_the_hub_is_said(hub):
    hub.error = answered(RepositoryNotFoundError, "404")
    with pytest.raises(FileNotFoundError, match="there is no public me/none on the hub; check the name, or sign in"):
        vitlab.pull("hf://me/none")


def test_without_the_hub_one_sentence_says_so(net, tmp_path, monkeypatch):
    """By the real functions, told to stay offline, with an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="the Hugging Face hub cannot be reached, so nothing was pushed to me/net; push"):
        vitlab.push(net, "hf://me/net")
    with pytest.raises(ConnectionError, match="me/net is not in the cache and the Hugging Face hub cannot be reached; go"):
        vitlab.pull("hf://me/net")
    with pytest.raises(ValueError, match="'a b' is no name on the hub"):
        vitlab.pull("hf://a b")


@pytest.mark.parametrize("source", ["none", "."])
def test_a_folder_without_a_net_is_said(tmp_path, source):
    with pytest.raises(FileNotFoundError, match="holds no net.safetensors; give a folder that vitlab.push wrote"):
        vitlab.pull(tmp_path / source)
