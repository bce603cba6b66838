"""Prediction: what a network's file knows, inputs, records, exported networks. No torch."""
