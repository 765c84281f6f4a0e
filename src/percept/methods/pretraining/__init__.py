"""Pretraining: methods that train an encoder from random weights."""
