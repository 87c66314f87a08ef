"""Benchmarks: speed as ratios to a bare minimum measured in the same run; never timed tests."""
