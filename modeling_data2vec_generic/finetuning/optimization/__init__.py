"""How the weights of an encoder are trained on: rates by layer, the tri-stage schedule, mixed images.

Each file stands by itself.
"""
