"""Runs side by side: what differs in their configurations, their curves and their results."""
