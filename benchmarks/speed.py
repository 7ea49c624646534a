"""Every table of speed, one after another.  python benchmarks/speed.py [cpu] [fp32,bf16] [word,word]

Runs the benchmarks below on a device, in each precision; words choose those whose line holds one of them. Each takes its time
while nothing else runs. What fails is told at the end, and the others go on.
"""
import sys
import traceback
from importlib import import_module
from time import perf_counter

import torch
from outsiders import pictures

LIST = (    # (script, arguments of its main), with the device and precision filled in
    ("throughput", "deit_small {batch} {precision} {device}"), ("svit_speed", "{device} {precision}"),
    ("spvit_speed", "{device} {precision}"), ("dvt_speed", "{device} {precision}"), ("revit_speed", "{device} {precision}"),
    ("latency", "deit_small {device} {precision} {ways}"), ("pays", "{device} {precision}"),
    ("published", "deit_tiny,deit_small,deit_base 5 {device} {precision}"), ("supervit_training", "{device} {precision}"),
    ("throughput", "deit_small {batch} {precision} {device} 9 graphs"), ("throughput", "deit_tiny {batch} {precision} {device}"),
    ("throughput", "deit_base {batch} {precision} {device}"), ("spvit_latency", "{device}"), ("loader", "{device}"),
    ("throughput", "deit_small {batch} {precision} {device} 9 compiled"),
)
GPU_ONLY = (" graphs",)


def main(device: str = "cpu", precisions: str = "fp32", words: str = "") -> None:
    gpu, failed = torch.device(device).type == "cuda", []
    for number, precision in enumerate(precisions.split(",")):
        for script, told in LIST:
            if words and not any(word in f"{script} {told}" for word in words.split(",")):
                continue
            if number and "{precision}" not in told or not gpu and told.endswith(GPU_ONLY):
                continue
            given = told.format(device=device, precision=precision, batch=pictures(32, device, precision),
                                ways="eager,graphs" if gpu else "eager")
            begin = perf_counter()
            try:
                import_module(script).main(*given.split())
            except Exception:                               # told below; hours of measuring do not end with one
                failed.append(f"{script} {given}\n{traceback.format_exc(limit=-4)}")
            if gpu:
                torch.cuda.empty_cache()
            print(f"[{perf_counter() - begin:.0f} s] python benchmarks/{script}.py {given}", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} failed:\n\n" + "\n".join(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
