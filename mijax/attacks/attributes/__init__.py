"""Attribute inference: sensitive fields of partly known records."""
