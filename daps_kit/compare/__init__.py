"""Samplers compared on the same images, measurements, noise and priors.

document    a comparison's file -> its cells, each a recipe     arena    runs them, and gathers what they gave
statistics  paired intervals, ranks, fronts                     report   tables, CSV, LaTeX, what can be concluded
drawing     ranks and fronts as pictures
"""
