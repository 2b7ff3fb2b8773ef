"""Samplers compared on the same images, measurements, noise and priors.

document    a comparison's file -> its cells, each a recipe     arena    runs them, and gathers what they gave
posteriors  tasks whose posterior is known                      known    samplers on them, against exact samples
levy        walks, among these tasks                            matrix   operators and covariances as matrices
tuning      settings searched on images of their own
statistics  paired intervals, ranks, fronts                     report   tables, CSV, LaTeX, what can be concluded
drawing     ranks and fronts as pictures                        site     all of it as a page
"""
