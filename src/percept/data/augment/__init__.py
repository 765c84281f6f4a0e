"""Augmentation of training images: random crops, jitter and flips, several views of an image, hidden patches."""

from percept.data.augment.recipe import Augment, Augmented, Masking, augmented
from percept.data.augment.view import Boxes, Masks, Points, View, normalise_jittered

__all__ = ["Augment", "Augmented", "Boxes", "Masking", "Masks", "Points", "View", "augmented", "normalise_jittered"]
