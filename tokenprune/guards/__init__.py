"""Calls into strategies: what they return is checked, and whose defect an exception is."""
