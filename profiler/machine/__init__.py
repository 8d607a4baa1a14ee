"""Cards, NVML and the live stack."""
