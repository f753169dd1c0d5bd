"""Published figures agree with each other as far as they were rounded."""

import numpy as np
import pytest

from jaxreg.benchmark import published


@pytest.mark.parametrize("table", [published.DIRLAB_CASES, published.DIRLAB_COPD_CASES])
def test_ten_cases_each(table):
    assert {len(values) for values in table.values()} == {10}


@pytest.mark.parametrize(
    "column, row",
    [
        ("initial", "initial"),
        ("DLIR", "de Vos 2019 (DLIR)"),
        ("mlVIRNet", "Hering 2019 (mlVIRNet)"),
        ("LungRegNet", "Fu 2020 (LungRegNet)"),
        ("GraphRegNet", "Hansen 2021 (GraphRegNet)"),
        ("VoxelMorph", "VoxelMorph, on COPDGene"),
        ("the paper", "Hering 2021 (the paper)"),
        ("pTVreg (snapped)", "Vishnevskiy 2017 (pTVreg)"),
    ],
)
def test_cases_average_to_the_mean(column, row):
    mean = {entry.method: entry.mean for entry in published.DIRLAB}[row]
    assert np.mean(published.DIRLAB_CASES[column]) == pytest.approx(mean, abs=0.051)


def test_eppenhofs_cases_do_not_and_we_know():
    assert np.mean(published.DIRLAB_CASES["Eppenhof"]) == pytest.approx(3.68, abs=0.005)


def test_observers_of_copdgene_average_to_their_mean():
    mean = {entry.method: entry.mean for entry in published.DIRLAB_COPD}["observers"]
    assert np.mean(published.DIRLAB_COPD_CASES["observers"]) == pytest.approx(mean, abs=0.005)


def test_the_proposed_ablation_is_the_paper():
    proposed = published.ABLATION["proposed"]
    paper = published.COPDGENE[-1]
    assert (proposed.dice, proposed.folds) == (paper.dice[0], paper.folds)
    assert proposed.dirlab_tre == published.DIRLAB[16].mean
