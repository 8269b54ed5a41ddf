"""How do the images of manifests enter: a billion before the first record of the order, more among its records?"""
