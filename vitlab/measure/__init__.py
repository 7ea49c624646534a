"""Measuring: cost, speed and answers of any method at any point, as tidy frames. Knows no method by name."""
from vitlab.measure.agreement import agreement
from vitlab.measure.answers import answers, layers, sweep
from vitlab.measure.cost import audit, gmacs, parameters
from vitlab.measure.depth import depth
from vitlab.measure.exits import exits, leaving
from vitlab.measure.focus import focus
from vitlab.measure.latency import Latency, latency, latency_race
from vitlab.measure.lens import lens
from vitlab.measure.pays import pays
from vitlab.measure.records import facts, paper, write
from vitlab.measure.resources import joules, peak_memory
from vitlab.measure.rows import Rows, attention_rows
from vitlab.measure.slices import pick
from vitlab.measure.speed import Speed, race, throughput
from vitlab.measure.usage import by_region, fate, overlap, used

__all__ = ["Latency", "Rows", "Speed", "agreement", "answers", "attention_rows", "audit", "by_region", "depth", "exits", "facts",
           "fate", "focus", "gmacs", "joules", "latency", "latency_race", "layers", "leaving", "lens", "overlap", "paper",
           "parameters", "pays", "peak_memory", "pick", "race", "sweep", "throughput", "used", "write"]
