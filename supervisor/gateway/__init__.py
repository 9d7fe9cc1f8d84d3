"""HTTP: health, metrics, the internal API and the operators' page."""
