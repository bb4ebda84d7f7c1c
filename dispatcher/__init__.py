"""Durable event dispatcher for RD Station Marketing."""
