-- Waste containers. Units and valid ranges stand in src/telemetry/domains/waste.py.

CREATE TABLE waste_readings (
    time timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device_key int NOT NULL,
    battery_pct double precision,
    rssi_dbm double precision,
    snr_db double precision,
    fill_level_pct double precision,
    weight_kg double precision,
    temperature_c double precision,
    distance_mm double precision,
    methane_ppm double precision,
    tilted boolean,
    lid_open boolean,
    attributes jsonb,
    PRIMARY KEY (device_key, time)
);

CALL telemetry_install_domain('waste');
