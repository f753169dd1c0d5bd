# syntax=docker/dockerfile:1
#
# jaxreg in a container.
#
#   docker build -t jaxreg .                                             CPU
#   docker build -t jaxreg:cuda --build-arg EXTRAS=dicom,cohort,cuda .   NVIDIA GPU
#
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" jaxreg \
#       register fixed.nii.gz moving.nii.gz --out result
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" jaxreg:cuda \
#       register fixed.nii.gz moving.nii.gz --out result
#
# The CUDA libraries come with the Python packages; the host needs the NVIDIA driver and the NVIDIA
# Container Toolkit.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY jaxreg ./jaxreg
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=dicom,cohort
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /tmp/constraints.txt \
        "$(echo /wheels/jaxreg-*.whl)[${EXTRAS}]" \
    && rm /tmp/constraints.txt
# Compiled programs are kept here; mount a volume to keep them between runs.
ENV XDG_CACHE_HOME=/cache MPLCONFIGDIR=/cache/matplotlib
RUN mkdir -p /cache/matplotlib && chmod -R 1777 /cache
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["jaxreg"]
CMD ["--help"]
