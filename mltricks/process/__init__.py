"""The process and its machine: device, signals, start and end, files written whole."""
