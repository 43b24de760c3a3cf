# The service as an image: `docker build .` for CPUs, `docker build --build-arg DEVICE=cuda .` for NVIDIA GPUs.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=cpu
# PyPI's torch brings CUDA, which takes 5 GB that a machine without a GPU has no use for.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# What the package needs comes before the package, so that another version of the code is built in seconds.
RUN python3 -m venv /opt/tokenflow \
    && if [ "$DEVICE" = cpu ] && [ -n "$TORCH_INDEX" ]; then \
        /opt/tokenflow/bin/pip install --no-cache-dir --constraint constraints.txt \
            --index-url "$TORCH_INDEX" torch torchvision; fi \
    && install -D /dev/null tokenflow/__init__.py \
    && /opt/tokenflow/bin/pip install --no-cache-dir --constraint constraints.txt ".[serve,ui]"
COPY tokenflow tokenflow
RUN /opt/tokenflow/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE}
LABEL org.opencontainers.image.title="tokenflow" \
      org.opencontainers.image.description="Edit videos with a text prompt, over HTTP" \
      org.opencontainers.image.licenses="MIT"
# OpenCV links to these.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /srv/tokenflow tokenflow \
    && install --directory --owner tokenflow /data /models /hub
COPY --from=build /opt/tokenflow /opt/tokenflow
WORKDIR /srv/tokenflow
COPY --chown=tokenflow data/models/mini-sd data/models/mini-sd
ENV PATH=/opt/tokenflow/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/hub
USER tokenflow
# /data: database, clips and results. /models: checkpoints that the server's YAML names. /hub: what the Hub gave.
VOLUME ["/data", "/models", "/hub"]
EXPOSE 8000
HEALTHCHECK --start-period=120s --interval=30s --timeout=5s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["tokenflow"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
