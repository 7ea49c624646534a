"""The explorer: sliders around the figures. Here is no arithmetic that `measure`, `attribution` or a method could do."""
from vitlab.widgets.door import explore
from vitlab.widgets.panel import Panel

__all__ = ["Panel", "explore"]
