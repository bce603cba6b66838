"""Checking a data folder by its pictures: wrong labels, near duplicates, outliers."""
