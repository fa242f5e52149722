"""City sensor readings from MQTT to time-series tables, answered as exact time windows over HTTP."""

from importlib.metadata import version

__version__ = version("urban-telemetry")
