"""What leaves the agent: the sender, its line to the server or broker, and the certificate."""
