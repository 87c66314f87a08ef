"""Protocol Buffers: OTLP metrics and Prometheus remote write from their bytes."""
