"""The master process: the one loop, its signals, its listeners and its children."""
