"""MQTT brokers, by paho."""
