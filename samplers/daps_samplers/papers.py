"""What to cite of samplers, kernels and noise schedules."""

from __future__ import annotations

from daps_kit.settings import Paper

ROBERTS_1996 = Paper(
    "roberts1996",
    "Exponential convergence of Langevin distributions and their discrete approximations",
    ("Roberts, Gareth O.", "Tweedie, Richard L."),
    1996,
    journal="Bernoulli",
    doi="10.2307/3318418",
)
NEAL_2011 = Paper(
    "neal2011",
    "MCMC using Hamiltonian dynamics",
    ("Neal, Radford M.",),
    2011,
    booktitle="Handbook of Markov Chain Monte Carlo",
    arxiv="1206.1901",
)
HOFFMAN_2014 = Paper(
    "hoffman2014",
    "The No-U-Turn Sampler: Adaptively Setting Path Lengths in Hamiltonian Monte Carlo",
    ("Hoffman, Matthew D.", "Gelman, Andrew"),
    2014,
    journal="Journal of Machine Learning Research",
    arxiv="1111.4246",
)
METROPOLIS_1953 = Paper(
    "metropolis1953",
    "Equation of State Calculations by Fast Computing Machines",
    (
        "Metropolis, Nicholas",
        "Rosenbluth, Arianna W.",
        "Rosenbluth, Marshall N.",
        "Teller, Augusta H.",
        "Teller, Edward",
    ),
    1953,
    journal="The Journal of Chemical Physics",
    doi="10.1063/1.1699114",
)
ORIEUX_2012 = Paper(
    "orieux2012",
    "Sampling High-Dimensional Gaussian Distributions for General Linear Inverse Problems",
    ("Orieux, François", "Féron, Olivier", "Giovannelli, Jean-François"),
    2012,
    journal="IEEE Signal Processing Letters",
    doi="10.1109/LSP.2012.2189104",
)
BARDSLEY_2014 = Paper(
    "bardsley2014",
    "Randomize-Then-Optimize: A Method for Sampling from Posterior Distributions in Nonlinear Inverse Problems",
    ("Bardsley, Johnathan M.", "Solonen, Antti", "Haario, Heikki", "Laine, Marko"),
    2014,
    journal="SIAM Journal on Scientific Computing",
    doi="10.1137/140964023",
)
ZHANG_2025 = Paper(
    "zhang2025",
    "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing",
    (
        "Zhang, Bingliang",
        "Chu, Wenda",
        "Berner, Julius",
        "Meng, Chenlin",
        "Anandkumar, Anima",
        "Song, Yang",
    ),
    2025,
    booktitle="IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    arxiv="2407.01521",
)
WU_2023 = Paper(
    "wu2023",
    "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models",
    ("Wu, Luhuan", "Trippe, Brian L.", "Naesseth, Christian A.", "Blei, David M.", "Cunningham, John P."),
    2023,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2306.17775",
)
KELVINIUS_2025 = Paper(
    "kelvinius2025",
    "Solving Linear-Gaussian Bayesian Inverse Problems with Decoupled Diffusion Sequential Monte Carlo",
    ("Kelvinius, Filip Ekström", "Zhao, Zheng", "Lindsten, Fredrik"),
    2025,
    booktitle="International Conference on Machine Learning (ICML)",
    arxiv="2502.06379",
)
KARRAS_2022 = Paper(
    "karras2022",
    "Elucidating the Design Space of Diffusion-Based Generative Models",
    ("Karras, Tero", "Aittala, Miika", "Aila, Timo", "Laine, Samuli"),
    2022,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2206.00364",
)
SONG_2021 = Paper(
    "song2021",
    "Score-Based Generative Modeling through Stochastic Differential Equations",
    (
        "Song, Yang",
        "Sohl-Dickstein, Jascha",
        "Kingma, Diederik P.",
        "Kumar, Abhishek",
        "Ermon, Stefano",
        "Poole, Ben",
    ),
    2021,
    booktitle="International Conference on Learning Representations (ICLR)",
    arxiv="2011.13456",
)
LU_2025 = Paper(
    "lu2025",
    "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
    ("Lu, Cheng", "Song, Yang"),
    2025,
    booktitle="International Conference on Learning Representations (ICLR)",
    arxiv="2410.11081",
)
