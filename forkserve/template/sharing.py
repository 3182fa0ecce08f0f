import gc


def freeze():
    gc.collect()
    gc.freeze()


def immortalise():
    freeze()
