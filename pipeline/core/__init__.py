"""Concepts that every stage shares: geometry, volumes, artefacts, provenance, errors."""
