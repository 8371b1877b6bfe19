"""Fetch public scans: listed or named files over HTTPS, resumed, bounded and verified."""
