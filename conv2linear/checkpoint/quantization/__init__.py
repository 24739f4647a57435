"""How a checkpoint is quantised, and what a quantiser does to a linear patch embedding."""
