"""What runs networks behind the seam: torch, torch's compiler, OpenVINO."""
