"""The nonlinear blur: the operator, the networks behind it, and how the one that ships is trained.

operator     the forward model            coded_blur   what it asks of a network
bkse         the published network        network      the small one, which is a shaken camera
weights      their files                  settings     what a training recipe says
pairs        pictures and their blurs     learner      how a network learns from them
measure      how well it does             trainer      all of it together
"""

from .settings import TrainBlur
from .sources import PUBLISHED

__all__ = ["PUBLISHED", "TrainBlur"]
