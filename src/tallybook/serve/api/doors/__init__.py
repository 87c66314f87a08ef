"""Front doors of the server: the protocols of agents that people already run."""
