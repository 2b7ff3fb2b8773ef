"""The papers of the samplers, for citations."""

from __future__ import annotations

from daps_kit.papers import Paper

__all__ = ["PAPERS"]

_ICLR, _NEURIPS = (
    "International Conference on Learning Representations",
    "Advances in Neural Information Processing Systems",
)

PAPERS = {
    "dps": Paper(
        "chung2023dps",
        "Diffusion posterior sampling for general noisy inverse problems",
        (
            "Chung, Hyungjin",
            "Kim, Jeongsol",
            "McCann, Michael Thompson",
            "Klasky, Marc Louis",
            "Ye, Jong Chul",
        ),
        2023,
        booktitle=_ICLR,
        arxiv="2209.14687",
    ),
    "pigdm": Paper(
        "song2023pigdm",
        "Pseudoinverse-guided diffusion models for inverse problems",
        ("Song, Jiaming", "Vahdat, Arash", "Mardani, Morteza", "Kautz, Jan"),
        2023,
        booktitle=_ICLR,
        url="https://openreview.net/forum?id=9_gsMA8MRKQ",
    ),
    "ddrm": Paper(
        "kawar2022ddrm",
        "Denoising diffusion restoration models",
        ("Kawar, Bahjat", "Elad, Michael", "Ermon, Stefano", "Song, Jiaming"),
        2022,
        booktitle=_NEURIPS,
        arxiv="2201.11793",
    ),
    "ddnm": Paper(
        "wang2023ddnm",
        "Zero-shot image restoration using denoising diffusion null-space model",
        ("Wang, Yinhuai", "Yu, Jiwen", "Zhang, Jian"),
        2023,
        booktitle=_ICLR,
        arxiv="2212.00490",
    ),
    "diffpir": Paper(
        "zhu2023diffpir",
        "Denoising diffusion models for plug-and-play image restoration",
        (
            "Zhu, Yuanzhi",
            "Zhang, Kai",
            "Liang, Jingyun",
            "Cao, Jiezhang",
            "Wen, Bihan",
            "Timofte, Radu",
            "Van Gool, Luc",
        ),
        2023,
        booktitle="IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops",
        arxiv="2305.08995",
    ),
    "red_diff": Paper(
        "mardani2024reddiff",
        "A variational perspective on solving inverse problems with diffusion models",
        ("Mardani, Morteza", "Song, Jiaming", "Kautz, Jan", "Vahdat, Arash"),
        2024,
        booktitle=_ICLR,
        arxiv="2305.04391",
    ),
    "mmps": Paper(
        "rozet2024mmps",
        "Learning diffusion priors from observations by expectation maximization",
        ("Rozet, François", "Andry, Gérôme", "Lanusse, François", "Louppe, Gilles"),
        2024,
        booktitle=_NEURIPS,
        arxiv="2405.13712",
    ),
    "tmpd": Paper(
        "boys2024tmpd",
        "Tweedie moment projected diffusions for inverse problems",
        (
            "Boys, Benjamin",
            "Girolami, Mark",
            "Pidstrigach, Jakiw",
            "Reich, Sebastian",
            "Mosca, Alan",
            "Akyildiz, O. Deniz",
        ),
        2024,
        journal="Transactions on Machine Learning Research",
        arxiv="2310.06721",
    ),
    "pnp_dm": Paper(
        "wu2024pnpdm",
        "Principled probabilistic imaging using diffusion models as plug-and-play priors",
        ("Wu, Zihui", "Sun, Yu", "Chen, Yifan", "Zhang, Bingliang", "Yue, Yisong", "Bouman, Katherine L."),
        2024,
        booktitle=_NEURIPS,
        arxiv="2405.18782",
    ),
    "sitcom": Paper(
        "alkhouri2025sitcom",
        "SITCOM: Step-wise triple-consistent diffusion sampling for inverse problems",
        (
            "Alkhouri, Ismail",
            "Liang, Shijun",
            "Huang, Cheng-Han",
            "Dai, Jimmy",
            "Qu, Qing",
            "Ravishankar, Saiprasad",
            "Wang, Rongrong",
        ),
        2025,
        booktitle="International Conference on Machine Learning",
        arxiv="2410.04479",
    ),
    "tds": Paper(
        "wu2023tds",
        "Practical and asymptotically exact conditional sampling in diffusion models",
        ("Wu, Luhuan", "Trippe, Brian L.", "Naesseth, Christian A.", "Blei, David M.", "Cunningham, John P."),
        2023,
        booktitle=_NEURIPS,
        arxiv="2306.17775",
    ),
    "pnp_hqs": Paper(
        "zhang2022dpir",
        "Plug-and-play image restoration with deep denoiser prior",
        ("Zhang, Kai", "Li, Yawei", "Zuo, Wangmeng", "Zhang, Lei", "Van Gool, Luc", "Timofte, Radu"),
        2022,
        journal="IEEE Transactions on Pattern Analysis and Machine Intelligence",
        arxiv="2008.13751",
    ),
    "wiener": Paper(
        "wiener1949",
        "Extrapolation, interpolation, and smoothing of stationary time series",
        ("Wiener, Norbert",),
        1949,
        publisher="MIT Press",
    ),
    "tv": Paper(
        "chambolle2011",
        "A first-order primal-dual algorithm for convex problems with applications to imaging",
        ("Chambolle, Antonin", "Pock, Thomas"),
        2011,
        journal="Journal of Mathematical Imaging and Vision",
        doi="10.1007/s10851-010-0251-1",
    ),
}
"""By the sampler's name."""
