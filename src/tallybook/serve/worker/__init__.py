"""Background work: the pump, lake maintenance and jobs."""
