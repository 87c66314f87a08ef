"""What leaves the edge when: lanes, circuit, sequence numbers, and what a server makes of them."""
