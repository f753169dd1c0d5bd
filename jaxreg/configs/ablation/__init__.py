"""The variants of Table 2 of Hering et al. 2021, each with one part left out."""
