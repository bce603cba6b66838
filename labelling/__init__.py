"""A heap of photographs gets names: what to ask a person, the page that asks, labels.csv."""
