"""Segmentation on frozen features."""
