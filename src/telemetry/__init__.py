"""City sensor readings from MQTT to time-series tables, answered as exact time windows over HTTP."""
