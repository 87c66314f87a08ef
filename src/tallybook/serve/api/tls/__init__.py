"""The listener for edges with certificates: TLS ends here, in a process of its own."""
