"""The panels: sliders around the figures, a governor at work. Here is no arithmetic that `measure`,
`attribution` or a method could do."""
from vitlab.widgets.door import explore, govern
from vitlab.widgets.governed import Governed
from vitlab.widgets.panel import Panel

__all__ = ["Governed", "Panel", "explore", "govern"]
