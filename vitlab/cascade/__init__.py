"""Early exit, which several methods share: leaving (`exits`), and thresholds for a budget (`budget`)."""
from vitlab.cascade.exits import (
    CRITERIA,
    EVEN,
    Point,
    Stage,
    check,
    confidence,
    entropy,
    leaves,
    outcomes,
    random,
    run,
    run_all,
    stop_at,
    straight,
)

__all__ = ["CRITERIA", "EVEN", "Point", "Stage", "check", "confidence", "entropy", "leaves", "outcomes", "random", "run",
           "run_all", "stop_at", "straight"]
