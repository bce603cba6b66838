"""Reporting: accuracy, calibration, the report of a run, figures. No torch."""
