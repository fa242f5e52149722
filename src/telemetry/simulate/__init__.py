"""A seeded city that publishes as its gateways would, for demos and load.

Every value is a pure function of the seed, the device and the time. Nothing is remembered between two readings, so
the city goes on after a restart where its clock says, counters keep rising, and a reading published twice is the same.
"""
