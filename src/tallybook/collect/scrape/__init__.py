"""What is read from a page of numbers: metrics endpoints and servers' status pages."""
