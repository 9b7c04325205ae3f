# The four services, the command line and the emulator: one build, a target for each image.
#   docker build -f deploy/docker/services.Dockerfile --target ingest -t photofinish/ingest .
# Each image is one static program, the roots that it trusts and its bill of materials: no shell, no package, nothing
# that is written.
# Base images by digest; another registry's copy, or one of your own, by `--build-arg`.
ARG RUST_IMAGE=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082

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

FROM scratch AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.vendor="Photofinish" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="deploy/docker/README.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=toolchain /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENV PHOTOFINISH__LOG__FORMAT=json

FROM runtime AS ingest
LABEL org.opencontainers.image.title="photofinish-ingest" \
      org.opencontainers.image.description="Takes jobs over HTTP and AMQP"
COPY --from=programs /programs/ingest.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish-ingest /photofinish-ingest
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/photofinish-ingest", "healthcheck"]
ENTRYPOINT ["/photofinish-ingest"]

FROM runtime AS dispatcher
LABEL org.opencontainers.image.title="photofinish-dispatcher" \
      org.opencontainers.image.description="Plans jobs, submits attempts to RunPod and ends runs"
COPY --from=programs /programs/dispatcher.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish-dispatcher /photofinish-dispatcher
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/photofinish-dispatcher", "healthcheck"]
ENTRYPOINT ["/photofinish-dispatcher"]

FROM runtime AS fetcher
LABEL org.opencontainers.image.title="photofinish-fetcher" \
      org.opencontainers.image.description="Watches attempts and pulls outputs off workers into the bucket"
COPY --from=programs /programs/fetcher.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish-fetcher /photofinish-fetcher
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/photofinish-fetcher", "healthcheck"]
ENTRYPOINT ["/photofinish-fetcher"]

FROM runtime AS notifier
LABEL org.opencontainers.image.title="photofinish-notifier" \
      org.opencontainers.image.description="Delivers webhooks and publishes events"
COPY --from=programs /programs/notifier.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish-notifier /photofinish-notifier
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/photofinish-notifier", "healthcheck"]
ENTRYPOINT ["/photofinish-notifier"]

FROM runtime AS cli
LABEL org.opencontainers.image.title="photofinish" \
      org.opencontainers.image.description="The command line"
COPY --from=programs /programs/cli.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish /photofinish
HEALTHCHECK NONE
ENTRYPOINT ["/photofinish"]

FROM runtime AS runpod-sim
LABEL org.opencontainers.image.title="runpod-sim" \
      org.opencontainers.image.description="An emulator of RunPod, for trials and tests"
ENV RUNPOD_SIM_LISTEN=0.0.0.0:8100
COPY --from=programs /programs/runpod-sim.cdx.json /sbom.cdx.json
COPY --from=programs /programs/runpod-sim /runpod-sim
EXPOSE 8100
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/runpod-sim", "healthcheck"]
ENTRYPOINT ["/runpod-sim"]

FROM runtime AS s3
LABEL org.opencontainers.image.title="photofinish-s3" \
      org.opencontainers.image.description="An S3 server for tests: nothing of it is for production"
COPY --from=programs /programs/kit.cdx.json /sbom.cdx.json
COPY --from=programs /programs/photofinish-s3 /photofinish-s3
EXPOSE 7070
HEALTHCHECK NONE
ENTRYPOINT ["/photofinish-s3", "--listen", "0.0.0.0:7070"]
