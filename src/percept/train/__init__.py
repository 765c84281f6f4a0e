"""Training: the loop, everything a resume needs, and the meters; knows no method."""

from percept.train.experiment import Every, Experiment, Placement, Settings, Task
from percept.train.loop import fit

__all__ = ["Every", "Experiment", "Placement", "Settings", "Task", "fit"]
