"""The methods paragraph, generated from the settings that were used, with its citations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REFERENCES = {
    "liu": "Liu et al. (2024), Future Generation Computer Systems 159, 474–488: pressure loss from "
    "super-resolved CT.",
    "unet": "Ronneberger, Fischer & Brox (2015), MICCAI, doi:10.1007/978-3-319-24574-4_28: U-Net.",
    "histospline": "Boneva, Kendall & Stefanov (1971), J. R. Stat. Soc. B 33, 1–70: histospline.",
    "ssim": "Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans. Image Process. 13, 600, "
    "doi:10.1109/TIP.2003.819861: SSIM.",
    "marching": "Lorensen & Cline (1987), SIGGRAPH, doi:10.1145/37401.37422: marching cubes.",
    "lbm": "Krüger et al. (2017), The Lattice Boltzmann Method, Springer, "
    "doi:10.1007/978-3-319-44649-3.",
    "recursive-regularised": "Malaspinas (2015), arXiv:1505.06900: recursive regularisation.",
    "projected-regularised": "Latt & Chopard (2006), Math. Comput. Simul. 72, 165, "
    "doi:10.1016/j.matcom.2006.05.017: regularised collision.",
    "bouzidi": "Bouzidi, Firdaouss & Lallemand (2001), Phys. Fluids 13, 3452, "
    "doi:10.1063/1.1399290: interpolated walls.",
    "roache": "Roache (1994), J. Fluids Eng. 116, 405, doi:10.1115/1.2910291: grid convergence.",
    "celik": "Celik, Ghia, Roache & Freitas (2008), J. Fluids Eng. 130, 078001, "
    "doi:10.1115/1.2960953: observed order.",
}
_CITATION = re.compile(r"\[@([a-z-]+)\]")
_INLETS = {
    "total-pressure": "all nostrils share one total pressure",
    "flat": "a flat velocity profile enters in proportion to the nostrils' areas",
    "developed": "fully developed velocity profiles enter in proportion to the nostrils' areas",
}


def methods(results: Mapping[str, Any], interpolation: str) -> tuple[list[str], list[str]]:
    """Describe what was done and cite it; return the paragraphs and the numbered references."""
    settings = results["provenance"]["settings"]
    texts = [
        _images(settings, interpolation),
        _airway(settings),
        *([_flow(settings["flow"], results)] if "flow" in settings else []),
    ]
    order = list(dict.fromkeys(_CITATION.findall(" ".join(texts))))
    numbered = [_CITATION.sub(lambda m: f"[{order.index(m[1]) + 1}]", text) for text in texts]
    return numbered, [REFERENCES[key] for key in order]


def _images(settings: Mapping[str, Any], interpolation: str) -> str:
    triplets = settings.get("triplets", {})
    factor, profile = triplets.get("factor", 3), triplets.get("profile", "box")
    named = {"spline": "a cubic spline", "linear": "linear interpolation"}
    chosen = named.get(interpolation, "a histospline [@histospline]")
    network = settings.get("training", {}).get("network")
    what = f"a network ({network})" if network and network != "unet" else "a U-Net [@unet]"
    return (
        "The design follows [@liu]. The scan was read as the high-resolution volume (HR). "
        f"Low-resolution slices (LR) simulate an acquisition {factor} times as thick: {factor} "
        f"adjacent slices weighted by a {profile} profile. Thin slices were restored by {chosen} "
        f"(interpolated) and by {what} (SR). Image errors: PSNR and SSIM [@ssim]."
    )


def _airway(settings: Mapping[str, Any]) -> str:
    airway, surface = settings.get("airway", {}), settings.get("surface", {})
    text = (
        f"The airway was segmented at {airway.get('isolevel_hu', -400):g} HU on HR from the "
        "nostrils to the pharynx; its planes and its region were used again for every variant, "
        "so that all are cut in the same places."
    )
    if surface:
        text += (
            " Surfaces are iso-surfaces of the grey values at "
            f"{surface.get('isolevel_hu', -400):g} HU [@marching], cut at the planes and closed."
        )
    return text


def _flow(flow: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    collision = flow.get("collision", "recursive-regularised")
    cited = f"{collision} collision" + (f" [@{collision}]" if collision in REFERENCES else "")
    text = (
        f"A steady inspiration of {flow.get('flow_rate_ml_s'):g} ml/s was simulated by the "
        f"lattice-Boltzmann method [@lbm] (D3Q19, {cited}, interpolated bounce-back at walls "
        f"[@bouzidi], {flow.get('precision')}) on a lattice of {flow.get('spacing_mm'):g} mm; "
        f"{_INLETS.get(str(flow.get('inlet')), 'inlets as set')}."
    )
    baseline = results["pressure_loss"].get("hr", {})
    coarser, method = baseline.get("coarser"), baseline.get("discretisation_method")
    if coarser:
        spacings = " and ".join(f"{c['spacing_mm']:g}" for c in coarser)
        cite = "[@roache]" if method and method.startswith("two") else "[@celik]"
        text += (
            f" The same flows at {spacings} mm give the discretisation error ({method}) {cite}."
        )
    return text
