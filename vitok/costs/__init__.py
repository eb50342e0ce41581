"""Costs of models: parameters, multiply-adds, FLOPs, hours, bytes."""
