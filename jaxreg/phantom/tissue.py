"""The tissues of the phantom in Hounsfield units, painted one over the other.

Points of the wall and points of the content come apart (`jaxreg.phantom.motion`): in the
exhaled image a voxel shows what its inhaled wall point or its inhaled content point shows.
Fractions of a voxel fall linearly over its width across a surface.
"""

import numpy as np
import scipy.ndimage

from jaxreg.phantom import anatomy
from jaxreg.phantom.anatomy import Content, Thorax

AIR, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -100.0, 50.0, 42.0, 58.0
TEXTURE_MM = 4.0
TEXTURE_ORIGIN = np.array([-178.0, -146.0, -16.0], np.float32)  # anatomical mm
CORTEX, MARROW, CARTILAGE, DISC = 800.0, 260.0, 130.0, 85.0


def cover(distance, width_mm):
    """Returns the fraction of a voxel on the negative side of a surface.

    Args:
        distance: of the centre to the surface, mm.
        width_mm: voxel size.

    Returns:
        Fractions in [0, 1].
    """
    return np.clip(0.5 - distance / width_mm, 0.0, 1.0)


def paint(hu, fraction, value):
    """Returns HU after a fraction of every voxel has been replaced.

    Args:
        hu: values before.
        fraction: that is replaced, in [0, 1].
        value: HU of what replaces it.

    Returns:
        HU.
    """
    return hu + fraction * (value - hu)


def wall_hu(thorax: Thorax, x, y, z, out, depth, width_mm: float):
    """Returns the HU of the body wall at points (N,): skin, fat, muscles, ribs, sternum, shoulder.

    Args:
        thorax: the subject.
        x, y, z: (N,) mm, wall points.
        out: (N,) mm, distance from the cavity.
        depth: (N,) mm, distance from the skin.
        width_mm: voxel size.
    """
    bumps = thorax.bumps(x, y, z)
    hu = np.full(x.shape, MUSCLE, np.float32)
    septa = np.minimum(
        np.abs(out - 18.0 - 3.0 * bumps) - 1.5,  # fat between the layers of muscle
        np.maximum(12.0 * np.abs(thorax.bumps(3.0 * x, 3.0 * y, 1.5 * z)) - 1.2, 20.0 - out),
    )
    hu = paint(hu, cover(septa, width_mm), FAT)
    hu = paint(hu, cover(out - 3.0, width_mm), 0.3 * MUSCLE)
    # a thick layer of fat stops at the muscles of the wall
    fat = depth - thorax.fat_mm * (1.0 + 0.25 * bumps) + 2.0
    hu = paint(hu, cover(np.maximum(fat, 12.0 - out), width_mm), FAT)
    hu = paint(hu, cover(depth - 2.0, width_mm), 10.0)
    shell = out < 32.0
    points = anatomy.pick((x, y, z), shell)
    hu[shell] = _ribs(thorax, hu[shell], *points, out[shell], width_mm)
    shoulder = z > 0.85 * thorax.cavity.height_mm
    points = anatomy.pick((x, y, z), shoulder)
    hu[shoulder] = _clavicles(thorax, hu[shoulder], *points, width_mm)
    return paint(hu, cover(depth, width_mm), AIR)


def _clavicles(thorax, hu, x, y, z, width_mm):
    """Returns HU of points of the wall with the clavicles painted over them."""
    height = thorax.cavity.height_mm
    _, ry, cy = thorax.cavity.profile(0.95)
    along = (np.abs(x) - 18.0) / 110.0
    front = cy + ry + 12.0 + 8.0 * np.sin(2.0 * np.pi * along) - 40.0 * along
    lift = 0.95 * height + 22.0 * along
    surface = np.hypot(y - front, z - lift) - 5.5
    surface = np.maximum(surface, 110.0 * np.maximum(along - 1.0, -along))
    bone = np.where(surface > -2.0, CORTEX, MARROW)
    return paint(hu, cover(surface, width_mm), bone)


def _ribs(thorax, hu, x, y, z, out, width_mm):
    """Returns HU of points of the wall with ribs and sternum painted over them.

    A rib runs at a constant z + drop(angle): from the spine it falls towards the front, where
    cartilage leads up again to the sternum.
    """
    height = thorax.cavity.height_mm
    rx, ry, cy = anatomy.section(thorax.cavity.profile, z, height)
    eta = (y - cy) / ry
    angle = np.arctan2(np.abs(x / rx), -eta) / np.pi  # 0 at the spine, 1 at the sternum
    steep = 0.42 - 0.25 * np.clip(z / height, 0.0, 1.0)
    fall = steep * height * (1.0 - np.cos(np.pi * np.minimum(angle, 0.8))) / 1.8
    rise = 0.25 * height * np.maximum(angle - 0.8, 0.0)
    position = (z + fall - rise) / thorax.rib_pitch_mm + thorax.rib_phase
    number = np.round(position)
    off_axis = 0.85 * (position - number) * thorax.rib_pitch_mm
    surface = (np.hypot(off_axis / 5.2, (out - 6.5) / 3.5) - 1.0) * 3.5
    end = np.clip(0.45 + 0.11 * number, 0.5, 1.0)  # the lowest ribs end in the wall
    surface = np.where((number < 1) | (angle > end) | (z > 1.02 * height), 50.0, surface)
    bone = np.where(angle > 0.78, CARTILAGE, np.where(surface > -1.5, CORTEX, MARROW))
    hu = paint(hu, cover(surface, width_mm), bone)
    plate = np.maximum(np.abs(x) - 15.0 - 8.0 * (z > 0.8 * height), np.abs(out - 6.0) - 5.0)
    plate = np.maximum(plate, np.maximum(0.38 * height - z, z - 0.92 * height))
    plate = np.where(eta > 0.0, plate, 50.0)
    hu = paint(hu, cover(plate, width_mm), np.where(plate > -1.5, 0.6 * CORTEX, 0.7 * MARROW))
    # shoulder blades: triangles behind the upper ribs, their tips down
    reach = 0.13 * (z / height - 0.55) / 0.4
    blade = np.maximum(np.abs(out - 24.0) - 2.0, 300.0 * (np.abs(angle - 0.32) - reach))
    blade = np.maximum(blade, z - 1.0 * height)
    return paint(hu, cover(blade, width_mm), 0.6 * CORTEX)


def paint_spine(thorax: Thorax, hu, x, y, z, width_mm: float):
    """Returns HU with vertebrae, discs, canal and processes painted over.

    Args:
        thorax: the subject.
        hu: values of N points.
        x: to the right, mm, (N,), where the wall was when inhaled.
        y: to the front, mm, (N,).
        z: to the head, mm, (N,).
        width_mm: voxel size.

    Returns:
        HU, (N,).
    """
    height, pitch = thorax.cavity.height_mm, thorax.rib_pitch_mm
    _, ry, cy = anatomy.section(thorax.cavity.profile, z, height)
    back = y - (cy - ry)
    turn = z / pitch + thorax.rib_phase
    phase = turn - np.round(turn)  # 0 in the middle of a vertebra, +-0.5 in a disc
    waist = 1.2 * np.cos(2.0 * np.pi * phase)
    body = (np.hypot(x / 17.0, (back - 11.0) / 14.0) - 1.0) * 14.0 + waist
    disc = (0.39 - np.abs(phase)) * pitch
    canal = np.hypot(x, back + 12.0) - 8.0
    arch = np.maximum(np.abs(canal - 2.5) - 3.0, (np.abs(phase + 0.1) - 0.36) * pitch)
    tilt = (z - 0.6 * (back + 20.0)) / pitch + thorax.rib_phase
    tilt = tilt - np.round(tilt)
    spinous = np.maximum(np.abs(x) - 3.5, np.abs(back + 36.0) - 18.0)
    spinous = np.maximum(spinous, (np.abs(tilt) - 0.3) * pitch)
    across = np.maximum(np.abs(back + 10.0 + 0.35 * np.abs(x)) - 5.0, np.abs(x) - 33.0)
    across = np.maximum(across, (np.abs(phase - 0.15) - 0.22) * pitch)
    bone = np.minimum(np.minimum(body, arch), np.minimum(spinous, across))
    value = np.where(bone > -2.0, 0.75 * CORTEX, MARROW)
    value = paint(value, cover(disc, width_mm), DISC)
    hu = paint(hu, cover(bone, width_mm), value)
    return paint(hu, cover(canal, width_mm), 25.0)


def content_hu(content: Content, width_mm: float):
    """Returns the HU of heart, great vessels, mediastinal fat and upper abdomen.

    Args:
        content: points with their distances to surfaces.
        width_mm: voxel size.

    Returns:
        HU of the points, (N,).
    """
    thorax, x, y, z = content.thorax, content.x, content.y, content.z
    height = thorax.cavity.height_mm
    _, ry, cy = content.section
    fine = thorax.bumps(3.0 * x + 50.0, 3.0 * y, 3.0 * z)
    hu = paint(np.full(x.shape, 35.0, np.float32), cover(4.0 * (0.8 - fine), 6.0), FAT)
    hu = paint(hu, cover(content.heart, width_mm), FAT)
    hu = paint(hu, cover(content.heart + 3.0 + 2.0 * content.bumps, width_mm), BLOOD)
    back = cy - ry
    for centre, radius, top in (
        ((-23.0, back + 37.0), 12.0, 0.74),  # descending aorta
        ((-18.0, cy + 22.0), 14.0, 0.74),  # ascending aorta
        ((20.0, cy + 18.0), 10.0, 1.2),  # superior vena cava
        ((-16.0, cy + 10.0), 6.0, 1.4),  # carotid arteries
        ((12.0, cy + 8.0), 6.0, 1.4),
    ):
        vessel = np.hypot(x - centre[0], y - centre[1]) - radius
        hu = paint(hu, cover(np.maximum(vessel, z - top * height), width_mm), BLOOD)
    return paint(hu, cover(z - content.diaphragm, width_mm), _abdomen(content, fine, width_mm))


def _abdomen(content, fine, width_mm):
    """Returns HU of liver, spleen, stomach with gas and fat under the diaphragm."""
    x, y, z = content.x, content.y, content.z
    rx, _, cy = content.section
    hu = np.where(fine > 0.9, 20.0, FAT).astype(np.float32)
    liver = -0.15 * rx - x + 0.25 * (cy - y) + 8.0 * content.bumps
    hu = paint(hu, cover(liver, width_mm), LIVER)
    width, depth, centre = content.thorax.cavity.profile(0.2)
    dome = content.thorax.dome_mm[1]
    spleen = (-0.62 * width, centre - 0.45 * depth, dome - 45.0)
    hu = paint(hu, cover(anatomy.ellipsoid(x, y, z, spleen, (34, 36, 42)), width_mm), 50.0)
    place = (-0.48 * width, centre + 0.15 * depth, dome - 42.0)
    stomach = anatomy.ellipsoid(x, y, z, place, (40, 46, 40)) + 3.0 * content.bumps
    hu = paint(hu, cover(stomach, width_mm), 35.0)
    gas = np.maximum(stomach + 5.0, place[1] + 18.0 - y)  # supine: the gas lies in front
    return paint(hu, cover(gas, width_mm), AIR)


def parenchyma_hu(content: Content, texture: np.ndarray, *, inhale_hu, gravity_hu, fissure_mm):
    """Returns the HU of inhaled lung tissue without vessels at the content's points (N,).

    Args:
        content: points in the lungs.
        texture: (A, B, C) relative density on a lattice of `TEXTURE_MM` from `TEXTURE_ORIGIN`.
        inhale_hu: mean.
        gravity_hu: rise from the middle to the back.
        fissure_mm: (thickness of a fissure, voxel size over which it is smeared).
    """
    _, ry, cy = content.section
    points = np.stack([content.x, content.y, content.z])
    index = (points - TEXTURE_ORIGIN[:, None]) / np.float32(TEXTURE_MM)
    grain = scipy.ndimage.map_coordinates(texture, index, order=1, mode="nearest")
    density = (1000.0 + inhale_hu) * np.maximum(1.0 + grain, 0.2)
    density -= gravity_hu * (content.y - cy) / ry
    horizontal = (content.x > 0.0) & (content.major > 0.0)
    plane = np.abs(content.major)
    plane = np.where(horizontal, np.minimum(plane, np.abs(content.minor)), plane)
    thickness, width = fissure_mm
    smeared = np.clip(1.0 - plane / width, 0.0, 1.0) * min(thickness / width, 1.0)
    return np.maximum(density, 15.0) - 1000.0 + smeared * 900.0


def draw_texture(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Returns relative fluctuations of density on a lattice that covers any lung.

    Args:
        rng: random numbers.
        strength: standard deviation of the finer of two scales.

    Returns:
        Values without unit, (A, B, C).
    """
    white = rng.standard_normal((90, 74, 84), dtype=np.float32)
    fine = scipy.ndimage.gaussian_filter(white, 0.6)
    coarse = scipy.ndimage.gaussian_filter(white[::-1], 4.0)
    return strength * (fine / fine.std() + 0.8 * coarse / coarse.std())
