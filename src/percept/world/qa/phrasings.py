"""Phrasings of the questions, the same for training and evaluation, in British and American spelling."""

PHRASINGS: dict[str, tuple[str, ...]] = {
    "category": (
        "What is in the image?",
        "What does the image show?",
        "What can you see in this image?",
        "Which object is shown?",
    ),
    "category by colour": (
        "What is the {} thing?",
        "Which object in the image is {}?",
        "What is the {} object called?",
    ),
    "colour": (
        "What colour is the {}?",
        "What color is the {}?",
        "Which colour does the {} have?",
        "What is the colour of the {}?",
        "What is the color of the {}?",
    ),
    "count": (
        "How many {} are there?",
        "How many {} are in the image?",
        "Count the {}.",
        "What is the number of {}?",
        "How many {} can you see?",
    ),
    "side": (
        "Where is the {0} relative to the {1}: left, right, above or below?",
        "Is the {0} to the left of, to the right of, above or below the {1}?",
        "On which side of the {1} is the {0}: left, right, above or below?",
        "Seen from the {1}, in which direction is the {0}: left, right, above or below?",
    ),
    "existence": (
        "Is there {} in the image?",
        "Is there {}?",
        "Does the image show {}?",
        "Can you see {}?",
        "Does this image contain {}?",
    ),
    "reading": (
        "What does the text say?",
        "Which word is printed in the image?",
        "Read the word.",
        "What is written in the image?",
        "What does the sign say?",
    ),
    "region": (
        "What is in the region {}?",
        "What is at {}?",
        "Name the object in the box {}.",
        "Which object does the box {} enclose?",
    ),
    "region_caption": (
        "Describe the region {}.",
        "Describe what is in the box {}.",
        "Write a caption for the region {}.",
    ),
    "referring": (
        "Where is the {}? Answer with a box.",
        "Give the box of the {}.",
        "Locate the {}.",
        "Which region shows the {}?",
    ),
    "attribute": ("Is the {0} {1}?", "Would you call the {0} {1}?", "True or not: the {0} is {1}. Answer yes or no."),
    "larger": ("Which is larger, the {0} or the {1}?", "Which one appears bigger: the {0} or the {1}?"),
    "nearer": ("Which is nearer, the {0} or the {1}?", "Which one is closer to the viewer: the {0} or the {1}?"),
    "short_caption": (
        "Describe the image briefly.",
        "Write a short caption.",
        "Describe the image in one sentence.",
        "What is shown here? Answer briefly.",
    ),
    "long_caption": (
        "Describe the image in detail.",
        "Write a long caption.",
        "Give a detailed description of this image.",
    ),
    "which_image": ("Which image shows {}?", "In which image can you see {}?", "Which of the images contains {}?"),
    "same category": (
        "Do both images show the same kind of thing?",
        "Is the thing in the first image of the same kind as the thing in the second?",
    ),
    "same colour": (
        "Do the things in the two images have the same colour?",
        "Is the thing in the first image the same color as the thing in the second?",
    ),
    "total": (
        "How many {} are there in all images together?",
        "Count the {} in all images.",
        "What is the total number of {} in these images?",
    ),
    "change": (
        "What changed between the first and the second image?",
        "What is different in the second image?",
        "Compare the two images. What has changed?",
    ),
}
"""Name of a group of phrasings → templates with places for names."""
