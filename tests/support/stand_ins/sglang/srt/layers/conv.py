"""Stand for the layers of an engine: see `tests.support.stand_ins`."""

from torch import nn


class Conv3dLayer(nn.Conv3d):
    """Has the attributes of the engine's layer that the plugin reads, as torch's layer does."""
