"""The training engine: a plain loop, the device and precision it runs in, and what it measures."""
