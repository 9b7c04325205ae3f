# The GPU worker: our program with ffmpeg (NVENC from the host's driver at run time) and the fonts of captions.
#   docker build -f deploy/docker/worker.Dockerfile -t photofinish/worker .
# Base images by digest; another registry's copy, or one of your own, by `--build-arg`.
ARG RUST_IMAGE=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG DEBIAN_IMAGE=debian:bookworm-slim@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251

# --- the programs: the same text in both Dockerfiles, so that what one has built the other finds built ---
FROM ${RUST_IMAGE} AS toolchain
WORKDIR /src

FROM toolchain AS skeleton
COPY . .
RUN deploy/docker/skeleton.sh /skeleton

FROM toolchain AS programs
COPY --from=skeleton /skeleton .
# The dependencies: a layer that stays until a manifest or the lock file changes. Of ours only empty crates are built,
# which cargo is to forget.
RUN scripts/static.sh build && rm -rf target/*/release/.fingerprint/photofinish-*
COPY . .
RUN scripts/static.sh install /programs \
    && for package in ingest dispatcher fetcher notifier worker runpod-sim kit; do \
         scripts/sbom.sh "photofinish-$package" >"/programs/$package.cdx.json"; \
       done \
    && scripts/sbom.sh photofinish-cli photofinish >/programs/cli.cdx.json
# --- end of the programs ---

FROM ${DEBIAN_IMAGE} AS worker
# No file gives rights to who runs it. The fonts are those of scripts/fonts.sh; setpriv and prlimit, which start every
# ffmpeg, are util-linux's.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
         ca-certificates ffmpeg fontconfig fonts-noto-core fonts-noto-cjk fonts-symbola util-linux \
    && fc-cache -f \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc /usr/share/man /usr/share/locale
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="photofinish-worker" \
      org.opencontainers.image.description="Renders media jobs on a rented GPU" \
      org.opencontainers.image.vendor="Photofinish" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="deploy/docker/README.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=programs /programs/worker.cdx.json /usr/share/photofinish/sbom.cdx.json
COPY --from=programs /programs/photofinish-worker /usr/local/bin/photofinish-worker
# What the NVIDIA container runtime puts into the container: the driver's encoder is `video`.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,video,utility \
    WORK_DIR=/tmp/work \
    OUTPUT_DIR=/tmp/output \
    BATCH_SIZE=0 \
    HTTP_PORT=8000 \
    HOME=/tmp \
    PHOTOFINISH__ADMIN__LISTEN=127.0.0.1:9090 \
    PHOTOFINISH__LOG__FORMAT=json
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/photofinish-worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/photofinish-worker"]
