"""One other tool on one pair of files, in a process of its own; `peers.py` starts it.

    python benchmarks/peer_tools.py greedy FIELD FIXED MOVING FIXED_MASK MOVING_MASK

FIELD becomes the whole displacement on the grid of the fixed image, as ITK writes it.
"""

import os
import sys
from pathlib import Path

CORES = str(len(os.sched_getaffinity(0)))


def greedy(files, field):
    """Normalised cross-correlation at four resolutions, within the fixed mask."""
    from picsl_greedy import Greedy3D

    tool, affine, warp = Greedy3D(), field.parent / "affine.mat", field.parent / "warp.nii.gz"
    pair = f"-threads {CORES} -i {files['fixed']} {files['moving']} -gm {files['fixed mask']}"
    tool.execute(f"{pair} -a -dof 12 -ia-image-centers -m NCC 4x4x4 -n 100x50x10 -o {affine}")
    tool.execute(f"{pair} -it {affine} -m NCC 2x2x2 -n 100x100x50x20 -o {warp}")
    tool.execute(f"-threads {CORES} -rf {files['fixed']} -r {warp} {affine} -rc {field}")


def ants(files, field):
    """SyN by cross-correlation of radius 2, its updates smoothed by 3 voxels."""
    import ants as package

    images = {name: package.image_read(path) for name, path in files.items()}
    result = package.registration(
        images["fixed"],
        images["moving"],
        type_of_transform="SyN",
        mask=images["fixed mask"],
        moving_mask=images["moving mask"],
        mask_all_stages=True,
        syn_metric="CC",
        syn_sampling=2,
        flow_sigma=3,
        reg_iterations=(100, 100, 50, 20),
    )
    written = package.apply_transforms(
        images["fixed"],
        images["moving"],
        result["fwdtransforms"],
        compose=f"{field.parent}/composed",
    )
    Path(written).rename(field)


TOOLS = {"greedy": greedy, "ANTs SyN": ants}

if __name__ == "__main__":
    NAMES = ("fixed", "moving", "fixed mask", "moving mask")
    TOOLS[sys.argv[1]](dict(zip(NAMES, sys.argv[3:], strict=True)), Path(sys.argv[2]))
