"""HTTP towards a Tallybook server: what the command line and the edge agent speak."""
