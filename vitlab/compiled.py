"""Compiled: a method whose operating points run as fused kernels, each point by a graph of its own.

torch.compile fits its kernels to the shapes it sees and, after eight of one function, goes on uncompiled without a word: the
twelve points of a SuperViT are more. So each point, number of pictures and precision is compiled on its own. On a GPU the
kernels of a small net are over before the next is launched; there they are recorded once as a CUDA graph and replayed at once.
"""
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.backbones import check_images, counting, image_size
from vitlab.evaluation import check_net, checked
from vitlab.fixed import At, obstacle, other_point, refused
from vitlab.words import short

WARM = 3            # passes before a CUDA graph is recorded, in which kernels are chosen


class Compiled(nn.Module):
    """Called, measured and shown like the method it holds: `Compiled(net)(images, point)`, the weights are the net's own.

    kernels: by torch.compile and its `backend`, which needs a C++ compiler on a CPU; False: the net's own. graphs: recorded as
    CUDA graphs (None: on a GPU). The first call of a point, batch and precision prepares it, which takes seconds to a minute;
    `prepared` says how long each took. With a trace, in training, where gradients are asked for, and while somebody forces
    patches or hooks into a block, the method itself runs: call it within torch.inference_mode(). Other knobs of the net, such as
    a SuperViT's token_type, are those of the first call.
    Raises ValueError for a point at which a picture decides what is computed, RuntimeError where nothing can be compiled.
    """

    def __init__(self, method: nn.Module, kernels: bool = True, graphs: bool | None = None,
                 backend: str | Callable = "inductor"):
        super().__init__()
        check_net(method)
        if isinstance(method, Compiled) or hasattr(method, "_orig_mod"):
            raise ValueError("this net is compiled already; give the net itself")
        if type(kernels) is not bool or not (graphs is None or type(graphs) is bool) or not (kernels or graphs is not False):
            raise ValueError(f"kernels and graphs say by True or False what is done; one must be, not {kernels!r}, {graphs!r}")
        if not callable(backend) and str(backend) not in torch.compiler.list_backends(exclude_tags=()):
            raise ValueError(f"torch.compile has no backend {backend!r}; leave it out, or see torch.compiler.list_backends()")
        self._orig_mod = method                             # torch.compile's own name: training and checkpoints know it
        self.kernels, self.graphs, self.backend = kernels, graphs, backend
        self.runs: dict[tuple, Callable[[Tensor], Tensor]] = {}
        self.prepared: dict[tuple[Any, int, str], float] = {}     # (point, pictures, precision) -> seconds

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked is the method's: its points, classes, costs."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)

    def forward(self, images: Tensor, point: Any = None, trace: Any = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S] at one operating point."""
        method = self._orig_mod
        if trace is not None or counting() or torch.is_grad_enabled() or any(map(touched, method.modules())):
            return method(images, point, trace)
        check_images(images, image_size(method.vit), next(method.parameters()))     # a graph does not look
        point, kind = checked(method, point), images.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
        key = point, images.shape, images.dtype, images.device, precision, torch.is_autocast_enabled(kind)
        with torch.inference_mode(False), torch.no_grad():  # one state, whichever the caller's is: no second graph for it
            run = self.runs.get(key)
            if run is not None and not getattr(run, "stale", bool)():
                return run(images)
            begin = perf_counter()
            self.runs[key] = run = self.prepare(images, point)
            logits = run(images)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
        self.prepared[point, len(images), str(precision).removeprefix("torch.")] = perf_counter() - begin
        return logits

    def prepare(self, images: Tensor, point: Any) -> Callable[[Tensor], Tensor]:
        """What answers such images at this point."""
        method = self._orig_mod
        if why := obstacle(method, point):
            other = other_point(method)
            instead = "" if other is None else f"take another point, such as {short(other)}, or "
            raise ValueError(refused(method, point, why, f"{instead}run the net itself")) from why
        graphs = images.is_cuda if self.graphs is None else self.graphs
        if graphs and not images.is_cuda:
            raise ValueError(f"CUDA graphs are of a GPU, and these images are on {images.device}; leave graphs out")
        run = At(method, point)
        if self.kernels:
            run = torch.compile(run, fullgraph=True, dynamic=False, backend=self.backend, isolate_recompiles=True)
            try:
                run(images)
            except Exception as error:                      # whatever a compiler may raise, told in one sentence
                told = (str(error).strip().splitlines() or [type(error).__name__])[0]
                want = ", perhaps for want of a C++ compiler such as g++; install one, or" if "C++" in str(error) else ";"
                raise RuntimeError(f"torch.compile could not compile this net here{want} run the net itself. "
                                   f"It said: {told}") from error
        return Recorded(run, images, [*method.parameters(), *method.buffers()]) if graphs else run


def touched(part: nn.Module) -> bool:
    """Does somebody train this part, force patches in it, or watch it, none of which a graph would know?"""
    return part.training or bool(part._forward_hooks) or getattr(part, "forced", None) is not None


class Recorded:
    """A CUDA graph of one pass: the same kernels on the same memory, launched as one."""

    def __init__(self, run: Callable[[Tensor], Tensor], images: Tensor, weights: list[Tensor]):
        self.weights = weights
        self.held = [weight.detach() for weight in weights]         # so that nobody else gets their memory
        self.images, stream = images.clone(), torch.cuda.Stream(images.device)
        enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        with torch.cuda.device(images.device), torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM):
                    run(self.images)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # others may be at work beside it
                self.logits = run(self.images)

    def stale(self) -> bool:
        """Do the weights lie elsewhere than when it was recorded, as after a journey to another device?"""
        return any(now.data_ptr() != then.data_ptr() for now, then in zip(self.weights, self.held, strict=True))

    def __call__(self, images: Tensor) -> Tensor:
        self.images.copy_(images)
        self.graph.replay()
        return self.logits.clone()
