"""What `doctor` looks at: see `pipeline.doctor`. Each module's functions return findings."""
