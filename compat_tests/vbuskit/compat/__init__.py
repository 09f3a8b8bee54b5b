# SPDX-License-Identifier: MIT
"""Guests, hosts, scenarios: what is tried, and what came of it."""
