"""Depth of a wall, from patch tokens; a whole evaluation in one file, for the tests.

The wall of image i is i metres away; the estimate is the mean length of its tokens.
"""

import numpy as np

from percept.eval.statistics import mean
from percept.eval.table import Evaluation, Plan, Result


def run(encoder, plan: Plan) -> Result:
    images = (np.full((24, 24, 3), number, np.uint8) for number in range(plan.count))
    estimates = [float(image.patches(0).norm(dim=-1).mean()) for image in encoder.hidden(images, 0)]
    errors = [abs(estimate - number) for number, estimate in enumerate(estimates)]
    return Result(scores=[mean("depth error", errors, unit="m", better="less")])


EVALUATION = Evaluation(name="depth", summary=__doc__, run=run, targets={"depth error": 1000.0})
