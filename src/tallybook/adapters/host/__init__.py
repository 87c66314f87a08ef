"""This host, read with psutil."""
