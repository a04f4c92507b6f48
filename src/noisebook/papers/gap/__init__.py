"""Generative accumulation of photons: predict where the next photon lands; denoise, sample and generate with it.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607, and its 3-D fork.
"""
