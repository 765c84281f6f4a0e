"""Training: the loop, everything a resume needs, and the meters; knows no method."""

from percept.train.experiment import Experiment, Settings
from percept.train.loop import fit

__all__ = ["Experiment", "Settings", "fit"]
