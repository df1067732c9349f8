"""What `doctor` looks at: see `pipeline.checks.doctor`. Each module's functions return findings."""
