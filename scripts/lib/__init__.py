"""The code behind the executables of `scripts/`, one module or package for each of them."""
