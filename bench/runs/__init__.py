"""The benches of the whole server: one module each, all with `run(...) -> Found`."""
