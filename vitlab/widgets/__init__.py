"""The explorer: sliders around the figures. Nothing is computed here that `measure`, `attribution` or a method does not compute."""
from vitlab.widgets.explore import explore
from vitlab.widgets.panel import Panel

__all__ = ["Panel", "explore"]
