-- Energy meters. Units and valid ranges stand in src/telemetry/domains/energy.py.

CREATE TABLE energy_readings (
    time timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    device_key int NOT NULL,
    battery_pct double precision,
    rssi_dbm double precision,
    snr_db double precision,
    active_power_w double precision,
    reactive_power_var double precision,
    apparent_power_va double precision,
    voltage_v double precision,
    voltage_l1_v double precision,
    voltage_l2_v double precision,
    voltage_l3_v double precision,
    current_a double precision,
    current_l1_a double precision,
    current_l2_a double precision,
    current_l3_a double precision,
    power_factor double precision,
    frequency_hz double precision,
    energy_import_kwh double precision,
    energy_export_kwh double precision,
    reactive_energy_kvarh double precision,
    attributes jsonb,
    PRIMARY KEY (device_key, time)
);

CALL telemetry_install_domain('energy');
