"""Processor time, memory and bytes written of a server's processes; the machine; totals."""
