# docker build -t paretoprune .                          with the CUDA libraries that PyTorch brings
# docker build -t paretoprune --build-arg DEVICE=cpu .   without them
# docker run --rm -it --shm-size=2g -v "$PWD:/work" [--gpus all] paretoprune search study.yaml

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY ultralytics_versions ultralytics_versions
COPY pruning pruning
COPY objectives objectives
COPY search search
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.11-slim-bookworm
ARG DEVICE=cuda
ARG EXTRAS=dashboard
# What OpenCV links to and its wheel does not have.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
# torch and torchvision from one place: a CPU build of the one does not load the other of PyPI.
RUN if [ "$DEVICE" = cpu ]; then \
      pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu; fi
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[$EXTRAS]" && paretoprune --version
WORKDIR /work
EXPOSE 8060
ENTRYPOINT ["paretoprune"]
CMD ["--help"]
