"""Photographs: files, decoding and the one preprocessing, splits, known data sets. No torch."""
