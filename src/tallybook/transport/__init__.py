"""The durable log: batches, offsets, acknowledgement, replay."""
