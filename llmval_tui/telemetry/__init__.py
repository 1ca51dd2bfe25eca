"""Hardware telemetry: sources of samples, the recorder, recordings and their replay."""
