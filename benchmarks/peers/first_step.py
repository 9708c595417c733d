"""An observer that ends the process at the first step, for ``startup.py``."""

import os

from mltricks.observers.base import Observer


class FirstStep(Observer):
    """Leaves at once, without clean-up, as the peers do."""

    def step(self, step: int) -> None:
        os._exit(0)
