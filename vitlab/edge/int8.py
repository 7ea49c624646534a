"""Int8: weights of one byte, and the numbers that they multiply rounded to one byte as they come."""
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vitlab.checkpoint import replace
from vitlab.edge.graph import PICTURES, check_path, label
from vitlab.edge.session import Session, contents, needed

LAYERS = ["MatMul", "Gemm"]                             # linear layers; products of two activations stay floats
FARTHEST = 0.25                                         # of the logits' spread, for the median picture


def quantise(source: str | Path, path: str | Path) -> Path:
    """Make an int8 file at `path` of the float32 file `source` that `export` wrote; the path.

    Every linear layer gets whole numbers of 7 bits, scaled channel by channel, and scales its input anew for every batch, so no
    calibration pictures are needed. Scales that were calibrated before ("static") do not pay: DeiT-T took 0.94 of its float32
    time with them, 0.75 so (ONNX Runtime 1.32, one thread of an AMD EPYC with AVX2). Weights of 8 bits were as fast, and five
    times as far off, because the sums overflow where the processor has no VNNI.
    Answers are close to the float32 file's, not equal, and pictures that run together share a scale: measure the accuracy as the
    file will be used. RuntimeError where answers to random pictures are lost, ValueError for a file that is int8 already or not
    ours, ImportError without the extra `edge`, OSError where nothing can be written.
    """
    quantization, onnx = needed("onnxruntime.quantization"), needed("onnx")
    path = check_path(path)
    before = Session(source)
    if before.precision != "fp32":
        raise ValueError(f"{source} is {before.precision} already; give the file that vitlab.export wrote")
    model = onnx.load_from_string(contents(source))
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")     # else it advises, on the root logger
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "int8.onnx"
        quantization.quantize_dynamic(model, draft, op_types_to_quantize=LAYERS, per_channel=True, reduce_range=True,
                                      weight_type=quantization.QuantType.QInt8)
        smaller = onnx.load(draft)
    label(smaller, before.facts | {"precision": "int8"})
    data = smaller.SerializeToString()
    compare(before, Session.of(data))
    replace(path, data)
    return path


def compare(before: Session, after: Session) -> None:
    """RuntimeError unless the int8 answers to random pictures follow the float32 ones."""
    size = before.image_size
    images = torch.randn(PICTURES, 3, size, size, generator=torch.Generator().manual_seed(0))
    truth = before(images)                                                 # [B, K]
    apart = ((after(images) - truth).abs().mean(1) / truth.std()).median()
    if not apart <= FARTHEST:
        raise RuntimeError(f"int8 answers to random pictures are {apart:.2g} of the logits' spread away from the float32 ones; "
                           "nothing was written, so use the float32 file")
