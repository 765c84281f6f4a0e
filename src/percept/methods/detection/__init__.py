"""Detection of things by their names: learned class prompts for regions, and a small detector that uses them."""
