"""The way to small devices: a method at one operating point as an ONNX file, run by ONNX Runtime, in float32 or int8.

`export` writes the file, `quantise` makes an int8 one of it, `Session` runs either. Only a point at which no picture decides how
many tokens are left can be written: a file holds one fixed graph. Needs the extra `edge` (onnx, onnxscript, onnxruntime); without
it `export` writes programs of torch.export (.pt2), which PyTorch runs where there is no vitlab.

There are no files of 16 bits, because ONNX Runtime's CPU gains nothing by them on x86: it computes float16 in float32 between
casts, no faster, and has no convolution in bfloat16. A processor that multiplies bfloat16 itself is used by PyTorch:
`sixteen_bit()` says whether this one does, and `vitlab.latency(net, image, precision="bf16")` what it brings.
"""
from vitlab.edge.graph import export
from vitlab.edge.int8 import quantise
from vitlab.edge.session import Session, sixteen_bit

__all__ = ["Session", "export", "quantise", "sixteen_bit"]
