# mq9 in a container: the executable, the C library, and nothing else. docs/operations.md says how to run it.

FROM debian:bookworm-slim AS build
# What a compiler of this release of Debian is called does not matter here: nothing of it is in the image.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils gcc libc6-dev libpython3.11 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml setup.py MANIFEST.in LICENSE README.md CHANGELOG.md ./
COPY src src
COPY tools tools
RUN python3 -m venv .venv \
 && .venv/bin/python -m pip install --quiet --no-cache-dir 'build>=1.2' 'setuptools>=77' 'Cython>=3.1,<4' \
 && .venv/bin/python -m tools.dist \
 && .venv/bin/python -m tools.executable.root dist/mq9 /image

FROM scratch
COPY --from=build /image /
COPY --from=build --chown=10001:10001 /image/data /data
COPY --from=build --chown=10001:10001 /image/data /backup
USER 10001:10001
# On every interface of the container; which of them others reach is for who runs it to say. The broker wants users or a token for that.
ENV PATH=/bin MQ9_HOST=0.0.0.0 MQ9_HTTP_PORT=8222 MQ9_DATA_DIR=/data
EXPOSE 4222 8222
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["mq9", "health"]
ENTRYPOINT ["mq9"]
CMD ["serve"]
