"""Run the command line: `python -m conv2linear`."""

from conv2linear.cli import main

if __name__ == "__main__":
    main()
