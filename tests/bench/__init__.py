"""Measurements: forkserve beside other servers, and what a template can gain."""
