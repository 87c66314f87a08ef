"""What `tallybook doctor` looks at: a data folder, with or without a server on it."""
