"""Requests that generate: their options, their slots, sampling, and the steps that the scheduler plans, carried out on a decoder."""
