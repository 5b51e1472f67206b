"""Confirmation: repeated runs, their statistics and reproduction."""
