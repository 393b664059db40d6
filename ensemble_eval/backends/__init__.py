"""What runs networks behind the `Predict` interface: torch, torch's compiler, OpenVINO."""
