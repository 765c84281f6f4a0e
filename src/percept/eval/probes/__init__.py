"""Probes: small models on the frozen features of one layer, and measures that need no training.

`percept.eval.layers` runs a probe on every layer; the heads that it trains are saved with the encoder and work on their own:

    from percept.eval.probes.head import Head, open_head, save_head

    save_head(folder, head)                     # head.json and head.safetensors
    head = open_head(folder)                    # Head(task, kind, layer, width, classes, unit, module)
    maps = head.maps(encoder, images)           # masks: class logits [n, c, y, x]; depth: [n, 1, y, x] in head.unit
    found = head.boxes(encoder, images)         # boxes: Boxes(boxes, labels, scores) of each image, xyxy in [0, 1]
    guesses = head.classes_of(encoder, images)  # classes: logits [n, c]

`maps` are at the size of the model's input (`encoder.preprocess.shape`); images are squashed to it. A head fits the whole encoder and
the encoder cut after `head.layer`, in which that block is the last one.

Files:
    outcome      statistics of single samples, from which a measure, its interval and paired differences are computed
    stream       features of several layers in one pass of the tower
    run          one pass over the samples: trains a probe on each layer, judges the held-out parts
    chance       what a constant answer scores
    probe        what a probe offers to `percept.eval.layers`, and the table of probes
    knn, linear  classes: weighted nearest neighbours; logistic regression
    retrieval    captions: a linear map from features to text vectors
    dense        masks and depth: a linear layer on patches
    dpt          depth: a light DPT
    fcos, boxes  boxes: a light FCOS head on a simple feature pyramid; COCO's average precision
    matching     points: correspondence (PCK); tracks: label propagation (J)
    reading      words: characters by a linear layer and CTC
    head         trained heads: save, open, apply
"""
