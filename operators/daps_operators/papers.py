"""What to cite of forward models."""

from __future__ import annotations

from daps_kit.settings import Paper

TRAN_2021 = Paper(
    "tran2021",
    "Explore Image Deblurring via Encoded Blur Kernel Space",
    ("Tran, Phong", "Tran, Anh Tuan", "Phung, Quynh", "Hoai, Minh"),
    2021,
    booktitle="IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    arxiv="2104.00317",
)
CHUNG_2023 = Paper(
    "chung2023",
    "Diffusion Posterior Sampling for General Noisy Inverse Problems",
    ("Chung, Hyungjin", "Kim, Jeongsol", "McCann, Michael T.", "Klasky, Marc L.", "Ye, Jong Chul"),
    2023,
    booktitle="International Conference on Learning Representations (ICLR)",
    arxiv="2209.14687",
)
KEYS_1981 = Paper(
    "keys1981",
    "Cubic convolution interpolation for digital image processing",
    ("Keys, Robert G.",),
    1981,
    journal="IEEE Transactions on Acoustics, Speech, and Signal Processing",
    doi="10.1109/TASSP.1981.1163711",
)
DUCHON_1979 = Paper(
    "duchon1979",
    "Lanczos filtering in one and two dimensions",
    ("Duchon, Claude E.",),
    1979,
    journal="Journal of Applied Meteorology",
    doi="10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2",
)
BORODENKO_2019 = Paper(
    "borodenko2019",
    "motionblur: generate authentic motion blur kernels",
    ("Borodenko, Levi",),
    2019,
    url="https://github.com/LeviBorodenko/motionblur",
)
WIDROW_1996 = Paper(
    "widrow1996",
    "Statistical theory of quantization",
    ("Widrow, Bernard", "Kollar, Istvan", "Liu, Ming-Chang"),
    1996,
    journal="IEEE Transactions on Instrumentation and Measurement",
    doi="10.1109/19.492748",
)
