"""What to cite of priors."""

from __future__ import annotations

from daps_kit.settings import Paper

HO_2020 = Paper(
    "ho2020",
    "Denoising Diffusion Probabilistic Models",
    ("Ho, Jonathan", "Jain, Ajay", "Abbeel, Pieter"),
    2020,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2006.11239",
)
DHARIWAL_2021 = Paper(
    "dhariwal2021",
    "Diffusion Models Beat GANs on Image Synthesis",
    ("Dhariwal, Prafulla", "Nichol, Alex"),
    2021,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2105.05233",
)
ROMBACH_2022 = Paper(
    "rombach2022",
    "High-Resolution Image Synthesis with Latent Diffusion Models",
    ("Rombach, Robin", "Blattmann, Andreas", "Lorenz, Dominik", "Esser, Patrick", "Ommer, Björn"),
    2022,
    booktitle="IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    arxiv="2112.10752",
)
HO_2022 = Paper(
    "ho2022",
    "Classifier-Free Diffusion Guidance",
    ("Ho, Jonathan", "Salimans, Tim"),
    2022,
    arxiv="2207.12598",
)
KARRAS_2022 = Paper(
    "karras2022",
    "Elucidating the Design Space of Diffusion-Based Generative Models",
    ("Karras, Tero", "Aittala, Miika", "Aila, Timo", "Laine, Samuli"),
    2022,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2206.00364",
)
FIELD_1987 = Paper(
    "field1987",
    "Relations between the statistics of natural images and the response properties of cortical cells",
    ("Field, David J.",),
    1987,
    journal="Journal of the Optical Society of America A",
    doi="10.1364/JOSAA.4.002379",
)
HU_2024 = Paper(
    "hu2024",
    "Learning Image Priors through Patch-based Diffusion Models for Solving Inverse Problems",
    ("Hu, Jason", "Song, Bowen", "Xu, Xiaojian", "Shen, Liyue", "Fessler, Jeffrey A."),
    2024,
    booktitle="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2406.02462",
)
