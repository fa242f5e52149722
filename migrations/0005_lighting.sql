-- Street lighting. Units and valid ranges stand in src/telemetry/domains/lighting.py.

CREATE TABLE lighting_readings (
    time timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device_key int NOT NULL,
    battery_pct double precision,
    rssi_dbm double precision,
    snr_db double precision,
    power_w double precision,
    voltage_v double precision,
    current_a double precision,
    power_factor double precision,
    dim_level_pct double precision,
    temperature_c double precision,
    energy_kwh double precision,
    burning_hours_h double precision,
    lamp_on boolean,
    fault text,
    attributes jsonb,
    PRIMARY KEY (device_key, time)
);

CALL telemetry_install_domain('lighting');
