"""Airway and vessel trees that fill the lobes, and their fraction of every voxel.

A tree grows towards points spread evenly through a lobe (Tawhai, Pullan and Hunter 2000,
"Generation of an anatomically based three-dimensional model of the conducting airways", Ann Biomed
Eng 28, 793-802): the points of a branch are split across a long direction, and each daughter
runs part of the way towards the centre of its half, until one point is left, which it reaches.
Radii follow Murray's law (1926), r_parent^m = sum of r_daughter^m with m = 3 (a little less has
been measured in lungs), so a branch that feeds n points has radius r_1 n^(1/m).
"""

import dataclasses

import numpy as np

_AHEAD = 0.4  # weight of lengths along a branch when its points are split
_BEND = 0.35  # fraction of its length for which a branch keeps the direction of its parent


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """Branches from a parent node to a child node; node 0 is the root.

    Attributes:
        nodes: (N, 3) mm.
        parent: (N,) index of the parent node, 0 for the root itself.
        radius_mm: (N,) radius of the branch that ends at the node.
    """

    nodes: np.ndarray
    parent: np.ndarray
    radius_mm: np.ndarray

    def branchings(self) -> np.ndarray:
        """Returns indices (B,) of the nodes with two daughters or more."""
        daughters = np.bincount(self.parent[1:], minlength=len(self.nodes))
        return np.flatnonzero(daughters[1:] >= 2) + 1

    def polyline(self, step_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns bent branches in straight pieces: starts (M, 3), ends (M, 3), radii (M,).

        A branch is a quadratic Bezier curve that leaves in the direction of its parent branch.
        """
        child = np.arange(1, len(self.nodes))
        start, end = self.nodes[self.parent[child]], self.nodes[child]
        incoming = start - self.nodes[self.parent[self.parent[child]]]
        incoming /= np.linalg.norm(incoming, axis=1, keepdims=True) + 1e-9
        length = np.linalg.norm(end - start, axis=1)
        control = start + _BEND * length[:, None] * incoming
        control = np.where(incoming.any(axis=1, keepdims=True), control, 0.5 * (start + end))
        pieces = np.clip(np.ceil(length / step_mm), 1, 12).astype(int)
        branch = np.repeat(np.arange(len(child)), pieces)
        index = np.arange(len(branch)) - np.repeat(np.cumsum(pieces) - pieces, pieces)

        def curve(s):
            s = s[:, None]
            a, b, c = start[branch], control[branch], end[branch]
            return (1 - s) ** 2 * a + 2 * s * (1 - s) * b + s**2 * c

        fraction = pieces[branch]
        return curve(index / fraction), curve((index + 1) / fraction), self.radius_mm[child][branch]


def grow(
    rng: np.random.Generator,
    root: np.ndarray,
    targets: np.ndarray,
    terminal_radius_mm: float,
    exponent: float,
) -> Tree:
    """Returns a tree of branches that fork until each feeds one target.

    Args:
        rng: random numbers.
        root: where the tree begins, mm, (3,).
        targets: points that it reaches, mm, (N, 3).
        terminal_radius_mm: radius of a branch that feeds one target.
        exponent: n; a branch that feeds k targets is k^(1/n) times as wide.

    Returns:
        The tree.
    """
    nodes, parents, fed = [root[None]], [np.zeros(1, int)], [np.array([len(targets)])]
    group = np.zeros(len(targets), int)  # open branch of every target
    tips, tip_index = root[None], np.zeros(1, int)
    count = 1
    while len(targets):
        size = np.bincount(group, minlength=len(tips))
        centre = _group_mean(targets, group, size)
        fraction = np.where(size == 1, 1.0, rng.uniform(0.22, 0.5, size=len(tips)))
        ends = tips + fraction[:, None] * (centre - tips)
        index = count + np.arange(len(tips))
        count += len(tips)
        nodes.append(ends)
        parents.append(tip_index)
        fed.append(size)
        upper = _split(rng, targets - centre[group], centre - tips, group, size)
        keep = size[group] > 1
        targets, new = targets[keep], (2 * group + upper)[keep]
        used, group = np.unique(new, return_inverse=True)
        tips, tip_index = ends[used // 2], index[used // 2]
    radii = terminal_radius_mm * np.concatenate(fed) ** (1.0 / exponent)
    return Tree(np.concatenate(nodes), np.concatenate(parents), radii)


def _group_mean(values, group, size):
    sums = [np.bincount(group, weights=v, minlength=len(size)) for v in values.T]
    return np.stack(sums, axis=-1) / size[:, None]


def _split(rng, offsets, heading, group, size):
    """Returns which side (N,) of its group's plane each point lies on; both sides are taken.

    Lengths along the heading count for less, so that daughters fan out and run far before they
    give off twigs, as vessels do that radiate from the hilum.
    """
    heading = heading / (np.linalg.norm(heading, axis=1, keepdims=True) + 1e-9)
    ahead = np.einsum("nc,nc->n", offsets, heading[group])
    offsets = offsets - (1.0 - _AHEAD) * ahead[:, None] * heading[group]
    products = (offsets[:, :, None] * offsets[:, None, :]).reshape(len(offsets), 9)
    spread = _group_mean(products, group, size).reshape(-1, 3, 3)
    values, vectors = np.linalg.eigh(spread)
    along = np.einsum("nc,nc->n", offsets, vectors[group, :, 2])
    # an unequal split gives the main stems and side branches of real trees
    bias = rng.uniform(-0.9, 0.9, size=len(size)) * np.sqrt(np.maximum(values[:, 2], 0.0))
    upper = along > bias[group]
    above = np.bincount(group, weights=upper, minlength=len(size))
    one_sided = (above == 0) | (above == size)
    return np.where(one_sided[group], along > 0.0, upper).astype(int)


def rasterise(starts, ends, radii, axes) -> np.ndarray:
    """Returns the fraction (X, Y, Z) of each voxel that tubes fill, float32 in [0, 1].

    Tubes wider than a voxel are drawn by their distance; narrower ones lay down their volume
    pi r^2 l along their axis with trilinear weights, so that their contrast fades as in a scan.

    Args:
        starts, ends: (M, 3) mm.
        radii: (M,) mm.
        axes: three increasing arrays, mm: the voxel centres.
    """
    spacing = np.array([axis[1] - axis[0] for axis in axes])
    origin = np.array([axis[0] for axis in axes])
    shape = tuple(len(axis) for axis in axes)
    wide = radii > 0.6 * np.cbrt(spacing.prod())
    fraction = _deposit(starts[~wide], ends[~wide], radii[~wide], origin, spacing, shape)
    for start, end, radius in zip(starts[wide], ends[wide], radii[wide], strict=True):
        low = np.floor((np.minimum(start, end) - radius - origin) / spacing).astype(int)
        high = np.ceil((np.maximum(start, end) + radius - origin) / spacing).astype(int) + 1
        low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
        if np.any(low >= high):
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        covered = _capsule_share(start, end, radius, [a[s] for a, s in zip(axes, box, strict=True)])
        np.maximum(fraction[box], covered, out=fraction[box])
    return np.minimum(fraction, 1.0)


def _capsule_share(start, end, radius, axes):
    """Returns the covered fraction of the voxels of a box by one round-ended tube."""
    spacing = [axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes]
    px, py, pz = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    direction = end - start
    along = (px - start[0]) * direction[0] + (py - start[1]) * direction[1]
    along = along + (pz - start[2]) * direction[2]
    s = np.clip(along / max(direction @ direction, 1e-9), 0.0, 1.0)
    dx, dy, dz = (p - a - s * d for p, a, d in zip((px, py, pz), start, direction, strict=True))
    distance = np.sqrt(dx**2 + dy**2 + dz**2) + 1e-6
    # extent of a voxel across the surface, which faces along (dx, dy, dz)
    across = np.hypot(np.hypot(dx * spacing[0], dy * spacing[1]), dz * spacing[2]) / distance
    return np.clip(0.5 + (radius - distance) / (across + 1e-6), 0.0, 1.0).astype(np.float32)


def _deposit(starts, ends, radii, origin, spacing, shape):
    """Returns the fraction of each voxel filled by thin tubes, from points along their axes."""
    steps = np.abs(ends - starts) / spacing
    pieces = np.maximum(np.ceil(2.0 * steps.max(axis=1, initial=0.0)), 1).astype(int)
    tube = np.repeat(np.arange(len(starts)), pieces)
    index = np.arange(len(tube)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    s = ((index + 0.5) / pieces[tube])[:, None]
    points = ((1.0 - s) * starts[tube] + s * ends[tube] - origin) / spacing
    volume = np.pi * radii**2 * np.linalg.norm(ends - starts, axis=1) / pieces / spacing.prod()
    cell = np.floor(points).astype(int)
    inside = np.all((cell >= 0) & (cell < np.array(shape) - 1), axis=1)
    cell, fraction, weight = cell[inside], (points - cell)[inside], volume[tube][inside]
    filled = np.zeros(np.prod(shape))
    for corner in np.ndindex(2, 2, 2):
        at = np.ravel_multi_index(tuple((cell + corner).T), shape)
        near = np.where(np.array(corner) == 1, fraction, 1.0 - fraction).prod(axis=1)
        filled += np.bincount(at, weights=weight * near, minlength=filled.size)
    return filled.reshape(shape).astype(np.float32)
