"""Triggers: rules on slices, projections and metrics that start captures by themselves."""
