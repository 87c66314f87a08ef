"""The bare minimum on this machine, in the same run: each step with nothing else done."""
