"""Admission: who may ask, how often, and how much; decided before anything is read or stored."""
