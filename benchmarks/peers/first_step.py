"""An observer that ends the process at the first step, for ``startup.py``."""

import os

from mltricks.observers.base import Observer


class FirstStep(Observer):
    """Exits at once, without clean-up, as the other programs do."""

    def step(self, step: int) -> None:
        os._exit(0)
