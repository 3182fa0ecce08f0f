"""The supervisor by itself: stories, exhaustive search, and random search."""
