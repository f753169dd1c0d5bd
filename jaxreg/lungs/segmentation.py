"""Lung mask of a chest CT by thresholds and morphology, on the host.

All work is done on arrays whose axes run to the patient's right, anterior and superior (the
closest permutation and flips of the volume's own axes) and, up to the last step, on a grid
reduced to about 2.5 mm. In that order: body, air inside the body, trachea and main bronchi out,
gas and small components out, left from right, vessels and nodules closed, border redrawn on the
volume's own grid.
"""

import numpy as np
from scipy import ndimage

from jaxreg.config import LungConfig
from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.reduction import block_mean
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.morphology import (
    EVERY,
    IN_PLANE,
    ball,
    close,
    distance_mm,
    labelled,
    spread,
)
from jaxreg.lungs.sides import LEFT, RIGHT, find_midline, in_ras, largest_body, split_sides
from jaxreg.lungs.view import padding_value


def lung_mask(volume: Volume, *, config: LungConfig = LungConfig()) -> Volume:
    """Labels of the lungs of a chest CT: 1 patient's right, 2 left, 0 elsewhere.

    Vessels, nodules and airways inside a lung belong to it; trachea and main bronchi do not.
    A lung that holds no air (consolidated or missing) gets no label.

    Args:
        volume: chest CT in HU, (X, Y, Z), any orientation and spacing.
        config: settings.

    Returns:
        Labels (X, Y, Z) uint8 on the grid of `volume`.

    Raises:
        ValueError: no lung was found.
    """
    data, spacing_mm, back = in_ras(volume)
    hu = np.asarray(data, np.float32)
    factors = np.maximum(1, np.rint(config.spacing_mm / spacing_mm)).astype(int)
    hu = _mark_padding(hu, factors, config)
    void = block_mean((hu < config.void_hu).astype(np.float32), factors) > 0
    coarse = block_mean(np.clip(hu, *config.window_hu), factors)
    labels = _coarse_labels(coarse, void, spacing_mm * factors, config)
    if not labels.any():
        hu = data
        raise ValueError(
            f"volume: expected a chest CT in HU with at least {config.minimum_ml:.0f} ml of "
            f"aerated lung ({config.gas_hu:.0f} to {config.lung_hu:.0f} HU, enclosed by the body), "
            f"got no such region in values from {hu.min():.0f} to {hu.max():.0f}. Convert the "
            "image to HU, or pass a lung mask."
        )
    labels = _redraw_border(hu, coarse, labels, factors, config)
    return Volume(data=back(labels), affine=volume.affine)


def _mark_padding(hu: np.ndarray, factors: np.ndarray, config: LungConfig) -> np.ndarray:
    """The image with padding below `void_hu`; padding is one value from a side on.

    Air is noise: a value that fills whole blocks up to a side of the volume was written there.
    """
    padding = padding_value(hu)
    if not config.void_hu <= padding < config.lung_hu:
        return hu
    same = hu == padding
    constant = labelled(block_mean(same.astype(np.float32), factors) >= 1.0)
    sides = np.concatenate([constant[[0, -1]].ravel(), constant[:, [0, -1]].ravel()])
    near = ndimage.binary_dilation(np.isin(constant, np.unique(sides[sides > 0])))
    return np.where(same & _upsampled(near, factors, hu.shape), np.float32(config.void_hu) - 1, hu)


def _upsampled(image: np.ndarray, factors: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each voxel of a reduced grid repeated over its block."""
    for axis, factor in enumerate(factors):
        image = np.repeat(image, factor, axis)
    return image[tuple(slice(n) for n in shape)]


def _coarse_labels(
    hu: np.ndarray, void: np.ndarray, spacing_mm: np.ndarray, config: LungConfig
) -> np.ndarray:
    """Labels on the reduced grid; zero everywhere where no lung is found."""
    body = largest_body(hu, spacing_mm, config)
    air, enclosed = (hu < config.lung_hu) & ~void, _enclosed(body)
    airways = _airways(hu, air & enclosed, spacing_mm, config)
    lungs = _aerated_components(hu, air & ~airways, enclosed, spacing_mm, config)
    labels = np.zeros(hu.shape, np.uint8)
    if not lungs.any():
        return labels
    box = voxel_box(lungs)
    midline = find_midline(hu, body, spacing_mm, config) - box[0].start
    sides = np.zeros_like(labels)
    sides[box] = split_sides(lungs[box], midline, spacing_mm, config)
    for side in (RIGHT, LEFT):
        closed = close(sides == side, config.closing_mm, spacing_mm, hole_mm2=config.hole_mm2)
        labels[closed & (labels == 0) & ((sides == 0) | (sides == side)) & ~void] = side
    return labels


def _enclosed(body: np.ndarray) -> np.ndarray:
    """Voxels that see the body in three or four of the four in-plane directions.

    Three, so that a lung cut by a side of the volume is still inside; the table and the air
    around the patient see it in one or two.
    """
    seen = np.zeros(body.shape, np.uint8)
    for axis in (0, 1):
        seen += np.maximum.accumulate(body, axis)
        seen += np.flip(np.maximum.accumulate(np.flip(body, axis), axis), axis)
    return seen >= 3


def _airways(
    hu: np.ndarray, air: np.ndarray, spacing_mm: np.ndarray, config: LungConfig
) -> np.ndarray:
    """Trachea and main bronchi with their walls, as far as they lie in `air`."""
    seed = _trachea(hu, air, spacing_mm, config)
    if not seed.any():
        return seed
    # Grow within a box around the trachea, under the highest threshold that does not leak.
    window = []
    for axis, reach in enumerate((config.airways_reach_mm / spacing_mm).astype(int)):
        extent = np.flatnonzero(seed.any(tuple(a for a in range(3) if a != axis)))
        last = extent[-1] + (reach if axis < 2 else 0)
        window.append(slice(max(extent[0] - reach, 0), last + 1))
    window = tuple(window)
    limit = seed.sum() + 1e3 * config.airways_ml / np.prod(spacing_mm)
    airways = seed.copy()
    for threshold in config.airways_hu:
        components = labelled(air[window] & (hu[window] < threshold))
        names = np.unique(components[seed[window] & (components > 0)])
        grown = np.isin(components, names)
        if grown.sum() <= limit:
            airways[window] |= grown
            break
    return ndimage.binary_dilation(airways, ball(config.airway_wall_mm, spacing_mm)) & air


def _trachea(
    hu: np.ndarray, air: np.ndarray, spacing_mm: np.ndarray, config: LungConfig
) -> np.ndarray:
    """The part of the trachea that tissue separates from the lungs in each axial slice.

    A stack of compact cross-sections, filled with gas, that ends above the middle of the air.
    """
    gas = air & (hu < config.trachea_hu)
    sections = labelled(gas, neighbours=IN_PLANE)
    counts = np.bincount(sections.ravel())
    areas = counts * spacing_mm[0] * spacing_mm[1]
    means = np.bincount(sections.ravel(), weights=hu.ravel()) / np.maximum(counts, 1)
    keep, (least, greatest) = np.zeros(len(counts), bool), config.trachea_mm2
    for name, box in enumerate(ndimage.find_objects(sections), start=1):
        sides_mm = [(box[a].stop - box[a].start) * spacing_mm[a] for a in (0, 1)]
        compact = areas[name] > config.trachea_fill * sides_mm[0] * sides_mm[1]
        compact = compact and max(sides_mm) < config.trachea_width_mm
        filled = means[name] < config.trachea_mean_hu
        keep[name] = least < areas[name] < greatest and filled and compact
    stacks = labelled(keep[sections], neighbours=EVERY)
    best, best_length = 0, config.trachea_length_mm
    middle = np.average(np.arange(air.shape[2]), weights=air.sum((0, 1)) + 1e-9)
    for name, box in enumerate(ndimage.find_objects(stacks), start=1):
        length = (box[2].stop - box[2].start) * spacing_mm[2]
        gas_filled = np.median(hu[box][stacks[box] == name]) < config.trachea_median_hu
        if length > best_length and box[2].stop > middle and gas_filled:
            best, best_length = name, length
    return (stacks == best) & (best > 0)


def _aerated_components(
    hu: np.ndarray,
    air: np.ndarray,
    enclosed: np.ndarray,
    spacing_mm: np.ndarray,
    config: LungConfig,
) -> np.ndarray:
    """The components of `air` in the body that are large enough for a lung and hold tissue.

    What a component has outside of `enclosed` goes with it only where it is not gas: there the
    volume cuts a lung at a corner.
    """
    components = labelled(air)
    names = _large(components, spacing_mm, config)
    inside = _medians(hu, np.where(enclosed, components, 0), names)
    outside = _medians(hu, np.where(enclosed, 0, components), names)
    fraction = np.bincount(components[enclosed], minlength=components.max() + 1)[names]
    fraction = fraction / np.bincount(components.ravel())[names]
    aerated = (inside > config.gas_hu) & (outside > config.gas_hu)
    cut = names[(fraction > config.cut_share) & aerated]
    air = air & (enclosed | np.isin(components, cut))
    components = labelled(air)
    names = _large(components, spacing_mm, config)
    depth_mm = distance_mm(components > 0, spacing_mm)
    lungs = names[~_gaseous(hu, components, names, depth_mm, config)]
    depths_mm = np.array([depth_mm[components == name].max() for name in lungs])
    deep = depths_mm >= config.least_depth * depths_mm.max(initial=0.0)
    return np.isin(components, lungs[deep])


def _gaseous(
    hu: np.ndarray,
    components: np.ndarray,
    names: np.ndarray,
    depth_mm: np.ndarray,
    config: LungConfig,
) -> np.ndarray:
    """Which of the named components hold gas and not lung, (N,).

    The median decides. A large one is lung also if part of its inside is, which the tissue around
    it does not blur: a lung and the gas of a pneumothorax can be one component. A small one is gas
    also if its inside is, and if the inside of the largest component is not.
    """
    sizes = np.bincount(components.ravel())[names]
    medians = _medians(hu, components, names)
    inside = np.where(depth_mm >= config.core_mm, components, 0)
    cores, aerated = _medians(hu, inside, names), _shares(hu > config.gas_hu, inside, names)
    small = sizes < config.small_share * np.count_nonzero(components)
    largest_core = cores[np.argmax(sizes)] if len(sizes) else 0.0
    dark = np.minimum(config.small_gas_hu, largest_core - config.gas_contrast_hu)
    gas = np.where(small, config.small_gas_hu, config.gas_hu)
    lung = ~small & (aerated >= config.lung_share)
    return ((medians <= gas) & ~lung) | (small & (cores <= dark))


def _large(components: np.ndarray, spacing_mm: np.ndarray, config: LungConfig) -> np.ndarray:
    """Names of the components that can be lungs by their volumes."""
    sizes_ml = np.bincount(components.ravel()) * np.prod(spacing_mm) / 1e3
    sizes_ml[0] = 0.0
    return np.flatnonzero(sizes_ml > max(config.minimum_ml, config.least_share * sizes_ml.max()))


def _medians(image: np.ndarray, components: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Median of an image over each named component; 0 over an empty one."""
    values = [image[components == name] for name in names]
    return np.array([np.median(v) if len(v) else 0.0 for v in values])


def _shares(mask: np.ndarray, components: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Fraction of each named component in a mask; 0 of an empty one."""
    values = [mask[components == name] for name in names]
    return np.array([np.mean(v) if len(v) else 0.0 for v in values])


def _redraw_border(
    hu: np.ndarray,
    coarse: np.ndarray,
    labels: np.ndarray,
    factors: np.ndarray,
    config: LungConfig,
) -> np.ndarray:
    """Labels on the full grid: within a reduced voxel of the border the HU decide."""
    box = voxel_box(ndimage.binary_dilation(labels > 0))
    fine = tuple(
        slice(part.start * factor, part.stop * factor)
        for part, factor in zip(box, factors, strict=True)
    )
    near, within = labels[box] > 0, hu[fine]
    core = ndimage.binary_erosion(near, EVERY, border_value=1).astype(bool)
    solid = core | (near & (coarse[box] >= config.lung_hu))  # closed vessels and nodules stay
    grown = np.where(ndimage.binary_dilation(near), spread(labels[box], factors), 0)

    solid = _upsampled(solid, factors, within.shape)
    grown = _upsampled(grown.astype(np.uint8), factors, within.shape)
    lung = (within < config.lung_hu) & (within > config.void_hu)
    redrawn = np.zeros(hu.shape, np.uint8)
    redrawn[fine] = grown * (solid | lung)
    return redrawn
